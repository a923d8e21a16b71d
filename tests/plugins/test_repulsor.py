"""The repulsor objective against its definition and closed forms.

Numbers in brackets are those of the queue traps in the reference on objectives.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from repulsor_parts import BATCH, build, config, directions, filled, step_with

from genmem.testing import ListMemory, check_objective
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.heads import RandomProjection
from genmem_repulsor.repulsor import repel_within
from genmem_repulsor.sphere import uniform_floor


@pytest.mark.parametrize("head", ["mlp", "linear", "jl"])
@pytest.mark.parametrize("group", [16, "global"])
def test_contract(head: str, group: int | str) -> None:
    """What every objective must do."""
    check_objective(RepulsorConfig(memory="negatives", tap_fraction=0.5, head=head, group=group))  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5])
def test_value_and_gradient_are_the_definition(temperature: float) -> None:
    """[11] Both terms in float64, pair by pair, own samples left out."""
    settings = config(temperature=temperature, w_bank=0.7, w_batch=1.3)
    queue, module = filled(), build(settings)
    step = step_with(queue, settings)
    hidden = step.prediction.hidden[2]
    q = F.normalize(module.head(hidden.mean(1)), dim=1).double()
    keys, ids = queue.state()["rows"].double(), queue.state()["ids"]
    bank = batch = torch.zeros((), dtype=torch.float64)
    for i in range(BATCH):
        others = keys[ids != step.batch.index_B[i]]
        bank = bank + (others @ q[i] / temperature).exp().mean().log() / BATCH
        mates = [j for j in range(i - i % 8, i - i % 8 + 8) if j != i]
        batch = batch + (q[mates] @ q[i] / temperature).exp().mean().log() / BATCH
    expected = 0.7 * bank + 1.3 * batch
    gradients = torch.autograd.grad(expected, [hidden, *module.head.parameters()], retain_graph=True)
    value, metrics = module(step)
    found = torch.autograd.grad(value, [hidden, *module.head.parameters()])
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert float(metrics["bank"]) == pytest.approx(float(bank.detach()), rel=1e-5)
    assert float(metrics["gap"]) == pytest.approx(float(bank.detach()) - module.floor, rel=1e-4)
    assert float(metrics["mean_query"]) == pytest.approx(float(q.detach().mean(0).norm()), rel=1e-5)


@pytest.mark.parametrize(
    ("temperature", "floor"), [(0.05, 1.544), (0.07, 0.792), (0.1, 0.3895), (0.2, 0.0976), (0.5, 0.0156)]
)
def test_floor(temperature: float, floor: float) -> None:
    """[13] The reference's table for d = 128, and SciPy's 0F1 at other widths."""
    assert uniform_floor(128, temperature) == pytest.approx(floor, abs=5e-4)
    for width in (2, 3, 32, 1024):
        expected = math.log(scipy.special.hyp0f1(width / 2, 1 / (4 * temperature**2)))
        assert uniform_floor(width, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 90 < uniform_floor(2, 0.01) < 100  # terms far beyond what a float holds


def test_both_terms_reach_floor_and_ceiling() -> None:
    """[13] The same functional: floor for uniform features, 1/τ for equal ones."""
    uniform = directions(4096, width=32)
    assert float(repel_within(uniform[None], 0.5)) == pytest.approx(uniform_floor(32, 0.5), abs=5e-3)
    assert float(repel_within(uniform[:1].expand(16, 32)[None], 0.2)) == pytest.approx(5.0)


def test_l2_and_cosine_are_one_on_the_sphere() -> None:
    """[14] Squared distances at τ are cosines at τ/2, less 2/τ."""
    q = directions(20).double()
    distances = torch.cdist(q, q).square()[~torch.eye(20, dtype=torch.bool)].view(20, 19)
    l2 = (-distances / 0.6).exp().mean(1).log().mean()
    torch.testing.assert_close(repel_within(q[None], 0.3) - 2 / 0.6, l2)


def test_a_memory_of_the_batch_itself_is_the_in_batch_term() -> None:
    """[14] With own samples left out the two terms are one number."""
    settings = config(group=BATCH, min_fill=0)
    module, step = build(settings), step_with(None, settings)
    q = module.queries(step.prediction.hidden[2]).detach()
    result = module(attrs.evolve(step, memories={"negatives": ListMemory(q, step.batch.index_B)}))
    torch.testing.assert_close(result.metrics["bank"], result.metrics["batch"])


def test_fp32_under_autocast() -> None:
    """[25] Head, products and logarithms."""
    settings = config()
    module, step = build(settings), step_with(filled(), config())
    plain = module(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = module(step)
    assert torch.equal(plain.value, cast.value)


def test_a_zero_feature_gives_no_nan() -> None:
    """[9] In value or gradient."""
    settings = config(head="jl")
    module, step = build(settings), step_with(filled(), config())
    step.prediction.hidden[2].data.zero_()
    value, _ = module(step)
    value.backward()
    gradient = step.prediction.hidden[2].grad
    assert bool(value.isfinite()) and gradient is not None and bool(gradient.isfinite().all())


def test_the_random_projection() -> None:
    """Oracle 8: no parameters, nothing in the state, the same from a seed, √(2/d) on squared norms."""
    module = build(config(head="jl"))
    assert not list(module.parameters()) and not module.state_dict()
    head, same, other = (RandomProjection(1152, 128, seed) for seed in (0, 0, 1))
    assert torch.equal(head.matrix_DE, same.matrix_DE) and not torch.equal(head.matrix_DE, other.matrix_DE)
    square = head(directions(400, width=1152)).square().sum(1)
    assert float(square.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(square.std()) == pytest.approx(math.sqrt(2 / 128), rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, "cannot repel itself.*w_batch = 0"),
        ({"w_bank": 0.0, "w_batch": 0.0}, "both 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"min_fill": -1}, "min_fill"),
        ({"tap_fraction": 0.5}, "either tap"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    """Before anything is built."""
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_batch_that_is_not_whole_groups_is_refused() -> None:
    """When it is built."""
    with pytest.raises(ValueError, match="global batch of 30 is not whole groups of 8"):
        build(config(), batch=30)
