"""Contrastive flow matching against loops in float64, its minimiser, its partners."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genmem.contracts import Conditioning, Facts, Prediction
from genmem.draws import Draws
from genmem.testing import check_objective
from genmem_velocity import ContrastiveFlowConfig
from genmem_velocity.contrastive import draw_partners

FACTS = Facts(sample_shape=(2, 3, 3), output_channels=2)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step_of(v: Tensor, u: Tensor, label: Tensor | None = None, drop: Tensor | None = None, round_: int = 0):
    label = torch.arange(len(v)) % 3 if label is None else label
    index = torch.arange(len(v))
    return SimpleNamespace(
        prediction=Prediction(v, {}),
        target=u,
        batch=SimpleNamespace(label_B=label),
        cond=Conditioning(drop_B=drop),
        draws=Draws(0, index, torch.full_like(index, round_)),
    )


def run(step, **options: object):
    return ContrastiveFlowConfig(**options).build(FACTS)(step)


def expect(step, group: int, *, other_class: bool = False, skip_dropped: bool = False) -> float:
    """The loss, sample by sample, in NumPy."""
    v, u, label = (
        part.detach().numpy() for part in (step.prediction.output, step.target, step.batch.label_B)
    )
    words = step.draws.words("contrastive-flow", 1)[:, 0].tolist()
    drop = [False] * len(v) if step.cond.drop_B is None else step.cond.drop_B.tolist()
    means = []
    for first in range(0, len(v), group):
        members, losses = range(first, first + group), []
        for i in members:
            others = [j for j in members if j != i]
            if other_class:
                others = [j for j in others if label[j] != label[i]] or others
            partner = others[words[i] * len(others) >> 32]
            if not (skip_dropped and drop[i]):
                losses.append(-np.square(v[i] - u[partner]).mean())
        means.append(np.mean(losses) if losses else 0.0)
    return float(np.mean(means))


@pytest.mark.parametrize("group", [2, 4, 12, "global"])
@pytest.mark.parametrize("other_class", [False, True])
@pytest.mark.parametrize("skip_dropped", [False, True])
def test_value_follows_the_definition(group, other_class, skip_dropped):
    """The first group's samples are all dropped, and of one class."""
    drop = torch.tensor([1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1]).bool()
    label = torch.tensor([5, 5, 5, 5, 0, 1, 0, 1, 2, 2, 2, 0])
    step = step_of(normal(12, 2, 3, 3), normal(12, 2, 3, 3, seed=1), label, drop)
    flags = {"other_class": other_class, "skip_dropped": skip_dropped}
    result = run(step, group=group, **flags)
    assert result.value.item() == pytest.approx(
        expect(step, 12 if group == "global" else group, **flags), rel=1e-6
    )
    if other_class and group == 12:
        assert result.metrics["same_class"] == 0


def test_gradient_is_that_of_the_prediction_alone():
    """-2 (v_i - u_π(i)) / (B · elements); the targets have none, a learned variance has none."""
    v, u = normal(4, 4, 3, 3).requires_grad_(), normal(4, 2, 3, 3, seed=1).requires_grad_()
    step = step_of(v, u)
    run(step, group=4).value.backward()
    member, place = torch.arange(4).expand(4, -1), torch.arange(4)
    other = draw_partners(step.draws, member, place, None)
    torch.testing.assert_close(v.grad[:, :2], -2 * (v - u[other].repeat(1, 2, 1, 1))[:, :2].detach() / 72)
    assert not v.grad[:, 2:].any() and u.grad is None


def test_partners_are_others_of_the_group_all_equally_often():
    """3000 rounds of a group of 4: each of the 12 ordered pairs 1000 times, within four deviations."""
    rounds = torch.arange(3000).repeat_interleave(4)
    draws = Draws(0, torch.arange(4).repeat(3000), rounds)
    place = torch.arange(12000)
    member = place[:, None] // 4 * 4 + torch.arange(4)
    other = draw_partners(draws, member, place, None)
    assert torch.equal(other // 4, place // 4)
    counts = torch.zeros(4, 4).index_put((place % 4, other % 4), torch.ones(12000), accumulate=True)
    assert not counts.diagonal().any()
    apart = counts[~torch.eye(4, dtype=torch.bool)]
    assert (apart - 1000).abs().max() < 4 * (3000 * 2 / 9) ** 0.5


@pytest.mark.parametrize("weight", [0.05, 0.4])
def test_minimiser_of_a_linear_model(weight):
    """v* = (u - λ ū) / (1 - λ), for a table of one velocity a class; and how guidance gets u back."""
    classes, each, rounds = 4, 16, 300
    count = classes * each
    label = torch.arange(count) % classes
    u = normal(count, 2, 3, 3, seed=2) + normal(classes, 2, 3, 3, seed=3)[label]
    index = torch.arange(count).repeat(rounds)
    step = step_of(u.repeat(rounds, 1, 1, 1), u.repeat(rounds, 1, 1, 1), label.repeat(rounds))
    step.draws = Draws(0, index, torch.arange(rounds).repeat_interleave(count))
    table = torch.zeros(classes, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> Tensor:
        optimizer.zero_grad()
        v = table[step.batch.label_B]
        step.prediction = Prediction(v, {})
        total = (v - step.target).square().mean() + weight * run(step, group=count).value
        total.backward()
        return total

    optimizer.step(loss)
    mean = torch.stack([u[label == c].mean(0) for c in range(classes)])
    # Partners are never the sample itself, so ū lacks it.
    others = (count * u.mean(0) - mean) / (count - 1)
    expected = (mean - weight * others) / (1 - weight)
    found = table.detach()
    noise = 5 * weight / (1 - weight) * float(u.std()) / (each * rounds) ** 0.5
    torch.testing.assert_close(found, expected, atol=noise, rtol=0)
    torch.testing.assert_close((1 - weight) * found + weight * others, mean, atol=noise, rtol=0)
    assert (found - mean).abs().max() > 3 * noise


def test_a_weight_of_one_has_no_floor_and_is_warned_about():
    u = normal(16, 2, 3, 3)
    totals, scales = [], []
    for size in (1.0, 10.0, 100.0):
        v = size * (u - u.mean(0))
        result = run(step_of(v, u))
        totals.append(((v - u).square().mean() + 1.5 * result.value).item())
        scales.append(result.metrics["scale"].item())
    assert totals[0] > totals[1] > totals[2] and totals[2] < -1000
    config = ContrastiveFlowConfig()
    assert scales[1] == pytest.approx(10 * float((u - u.mean(0)).norm() / u.norm()), rel=1e-6)
    assert config.warn({"scale": scales[0], "same_class": 0.1}) is None
    assert "lower the weight" in (config.warn({"scale": scales[1]}) or "")


def test_rounds_draw_other_partners():
    v, u = normal(16, 2, 3, 3), normal(16, 2, 3, 3, seed=1)
    assert run(step_of(v, u)).value != run(step_of(v, u, round_=1)).value
    assert run(step_of(v, u)).value == run(step_of(v, u)).value


def test_half_precision_is_widened_and_autocast_left():
    v, u = normal(16, 2, 3, 3), normal(16, 2, 3, 3, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(step_of(v.bfloat16(), u)).value
    assert found.dtype == torch.float32
    assert torch.equal(found, run(step_of(v.bfloat16().float(), u)).value)


def test_impossible_settings_are_refused():
    for group in (1, 0):
        with pytest.raises(ValueError, match=f"group = {group} has no other sample"):
            ContrastiveFlowConfig(group=group)
    one = Facts(sample_shape=(2, 3, 3), output_channels=2, batch=1)
    with pytest.raises(ValueError, match="a global batch of 1 has no other sample"):
        ContrastiveFlowConfig(group="global").build(one)
    with pytest.raises(ValueError, match="a micro-batch of 24 is not whole groups of 16"):
        run(step_of(normal(24, 2, 3, 3), normal(24, 2, 3, 3)))
    assert ContrastiveFlowConfig().coupling == 16
    assert ContrastiveFlowConfig(group="global").coupling == "global"


@pytest.mark.parametrize(
    "options", [{}, {"group": "global", "other_class": True}, {"skip_dropped": True}], ids=str
)
def test_contract(options):
    check_objective(ContrastiveFlowConfig(**options))
