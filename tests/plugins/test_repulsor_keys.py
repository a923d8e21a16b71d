"""Keys and positives of averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from repulsor_parts import BATCH, NO, YES, Brute, build, config, directions, step_with
from running import small_recipe
from torch import Tensor

from genmem.contracts import Commits, Prediction, Step, TimeRange, Times
from genmem.recipe import RecipeError
from genmem.testing import check_objective
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.keys import nearer_data

EMA = {"keys": "ema", "positive": "ema"}


class Stepped:
    """An interpolant that knows whole steps only."""

    def limits(self) -> TimeRange:
        """Eleven."""
        return TimeRange(0.0, 1.0, 11)


def watched(step: Step) -> tuple[Step, list[dict[str, Any]]]:
    """A step whose further forwards are noted; their hidden states follow from x_t."""
    asked: list[dict[str, Any]] = []

    def again(x_t: Tensor, t: Tensor, cond: Any, **how: Any) -> Prediction:
        asked.append({"x_t": x_t, "t": t, "cond": cond, **how})
        return Prediction(x_t, {2: hidden_of(x_t)})

    return attrs.evolve(step, again=again), asked


def hidden_of(x_t: Tensor) -> Tensor:
    """(B, 4, 16) from (B, 2, 4, 4)."""
    flat = x_t.flatten(1)
    return torch.cat([flat, flat.sin()], 1).view(len(flat), 4, 16)


@pytest.mark.parametrize("options", [{"keys": "ema-head"}, {"positive": "ema"}, EMA], ids=str)
def test_contract(options: dict[str, Any]) -> None:
    """What every objective must do."""
    check_objective(RepulsorConfig(memory="negatives", tap=2, **options))
    check_objective(RepulsorConfig(memory="negatives", tap=2, metric="l2", **options))


def test_the_average_follows_the_head_at_commit() -> None:
    """Not in a forward, not where the step was skipped; never trained; saved with the head."""
    module = build(config(keys="ema-head", key_decay=0.75))
    assert issubclass(type(module), Commits) and module.average is not None
    first = [p.clone() for p in module.head.parameters()]
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.add_(1.0)
    module(step_with(Brute(directions(300)), config()))
    for keep, share in ((NO, 0.0), (YES, 0.25), (YES, 1 - 0.75**2)):
        module.commit(keep)
        for slow, start in zip(module.average.parameters(), first, strict=True):
            torch.testing.assert_close(slow, start + share)
            assert not slow.requires_grad
    # The wrong variant, without the mask, has moved after the skipped step.
    other = build(config(keys="ema-head"))
    other.load_state_dict(module.state_dict())
    assert other.average is not None
    for slow, saved in zip(other.average.parameters(), module.average.parameters(), strict=True):
        assert torch.equal(slow, saved)
    build(config()).commit(YES)
    assert not any(name.startswith("average") for name in build(config()).state_dict())


def test_keys_of_the_averaged_head() -> None:
    """The same hidden states through the average, without a further forward."""
    settings, memory = config(keys="ema-head"), Brute(directions(300))
    module = build(settings)
    step, asked = watched(step_with(memory, settings))
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.mul_(1.5).add_(0.1)
    module(step)
    hidden = step.prediction.hidden[2]
    assert module.average is not None
    expected = F.normalize(module.average.module(hidden), dim=1)
    torch.testing.assert_close(memory.staged[0][0], expected.detach())
    assert not asked and not torch.allclose(expected, module.queries(hidden), atol=1e-3)


@pytest.mark.parametrize("metric", ["cos", "l2"])
def test_keys_and_positive_of_averaged_weights(metric: str) -> None:
    """Keys see the same x_t; the positive the same noise a little nearer to the data; up to the tap only."""
    settings = config(metric=metric, positive_gap=0.3, w_positive=0.7, teacher="slow", **EMA)
    module, plain, memory = build(settings), build(config(metric=metric)), Brute(directions(300))
    step, asked = watched(step_with(memory, settings))
    value, metrics = module(step)
    positive, key = asked
    assert torch.equal(key["x_t"], step.x_t) and torch.equal(key["t"], step.times.t)
    assert all((a["taps"], a["until"], a["weights"]) == ((2,), 2, "slow") for a in asked)
    lag = step.times.t - positive["t"]
    assert bool((lag >= 0).all()) and bool((lag < 0.3).all()) and float(lag.mean()) > 0.1
    torch.testing.assert_close(positive["x_t"], step.interpolant.mix(step.x, step.noise, positive["t"]))
    q, p = (module.queries(h) for h in (step.prediction.hidden[2], hidden_of(positive["x_t"])))
    close = (q * p).sum(1) / 0.2 if metric == "cos" else -(q - p).square().mean(1) / 0.2
    torch.testing.assert_close(metrics["positive"], close.mean())
    torch.testing.assert_close(value, plain(step).value - 0.7 * close.mean())
    torch.testing.assert_close(memory.staged[0][0], module.queries(hidden_of(step.x_t)).detach())


def test_the_positive_pulls_the_query_only() -> None:
    """No gradient reaches the averages; the query moves towards them."""
    settings = config(positive="ema", w_batch=0.0, min_fill=0)
    module = build(settings)
    step, _ = watched(step_with(Brute(directions(300)), settings))
    value, metrics = module(step)
    assert module.average is not None
    (gradient,) = torch.autograd.grad(value, step.prediction.hidden[2])
    with torch.no_grad():
        step.prediction.hidden[2].sub_(5.0 * gradient)
    assert float(module(step).metrics["positive"]) > float(metrics["positive"])


def at(t: Tensor, **changes: Any) -> Step:
    """A step at these times."""
    return attrs.evolve(step_with(None, config()), times=Times(t), **changes)


CHECKS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "no earlier than the data": lambda: (nearer_data(at(torch.zeros(BATCH)), 0.2).t, torch.zeros(BATCH)),
    "no gap": lambda: (nearer_data(at(torch.full((BATCH,), 0.4)), 0.0).t, torch.full((BATCH,), 0.4)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_times_of_the_positive_at_the_ends(name: str) -> None:
    """t' = max(0, t - U[0, gap))."""
    found, expected = CHECKS[name]()
    torch.testing.assert_close(found, expected)


def test_times_of_the_positive() -> None:
    """The same for a sample whatever the split; whole steps; token times together; spans end at 0."""
    t = torch.full((BATCH,), 0.5)
    one, other = nearer_data(at(t), 0.2).t, nearer_data(at(t), 0.2).t
    assert torch.equal(one, other) and float(one.std()) > 0.03
    stepped = nearer_data(at(t, interpolant=Stepped()), 0.25).t * 10
    torch.testing.assert_close(stepped, stepped.round())
    assert {round(float(k)) for k in stepped} == {3, 4, 5}
    tokens = nearer_data(at(torch.stack([t, t + 0.1], 1)), 0.2).t
    torch.testing.assert_close(tokens[:, 1] - tokens[:, 0], torch.full((BATCH,), 0.1))
    span = Times(t, torch.full((BATCH,), 0.45))
    moved = nearer_data(attrs.evolve(at(t), times=span), 0.2)
    assert moved.span_B is not None and bool((moved.span_B <= moved.t).all())


def test_a_teacher_that_is_no_average_of_the_recipe_is_found_by_check(data):
    asks = ("--objective.repel.positive=ema", "--objective.repel.teacher=slow")
    with pytest.raises(RecipeError, match=r"there is no \[ema.slow\].*there are: ema @ objective.repel"):
        small_recipe(data, *asks)
    small_recipe(data, *asks, tables="[ema.slow]\ndecay = 0.99\n")
    small_recipe(data, "--objective.repel.teacher=slow")  # nothing asks for it
