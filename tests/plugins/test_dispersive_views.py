"""The second view of the twins: its time and noise, the forward that is asked for, and the loss of both."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest
import torch
from dispersive_parts import FACTS, FORMS, Toy, define, dispersive, toy_step
from torch import Tensor

from genmem.contracts import Times
from genmem.draws import Draws
from genmem.testing.objective import StraightPath
from genmem_dispersive.views import nearby, second_draws, see_again
from genmem_flow import DdpmConfig, LinearConfig, MeanFlowConfig, VpConfig

ROWS = Draws(3, torch.arange(4096))


def second(step: SimpleNamespace, how: str, gap: float = 0.005) -> SimpleNamespace:
    """What the network is asked for the second view."""
    see_again(step, (1,), how, gap)
    return step.again.calls[-1]


@pytest.mark.parametrize("how", ["independent", "restricted"])
@pytest.mark.parametrize("taps", [(1,), (1, 2)])
def test_one_forward_of_the_same_samples_up_to_the_last_tap(how, taps):
    step = toy_step(Draws(3, torch.arange(8)))
    before = len(step.again.calls)
    hidden = see_again(step, taps, how, 0.005)
    (call,) = step.again.calls[before:]
    assert (call.taps, call.until) == (taps, max(taps))
    assert call.cond == step.cond
    assert set(hidden) == set(taps)


def noise_of(x_t: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """ε from x_t = (1 - t) x + t ε, where t is not small."""
    t = t.view(-1, 1, 1, 1)
    return ((x_t - (1 - t) * x) / t)[t.flatten() > 0.1]


def test_independent_views_have_times_and_noise_of_their_own():
    step = toy_step(ROWS)
    call = second(step, "independent")
    assert abs(torch.corrcoef(torch.stack([call.t, step.times.t]))[0, 1]) < 0.05
    assert abs(call.t.mean() - 0.5) < 0.02
    assert abs(call.t.var() - 1 / 12) < 0.005
    noise = noise_of(call.x_t, call.t, step.x)
    first = step.noise[call.t > 0.1]
    assert abs((noise * first).mean()) < 0.02
    assert abs(noise.square().mean() - 1) < 0.02


def test_restricted_views_have_the_same_noise_and_nearly_the_same_time():
    step = toy_step(ROWS)
    call = second(step, "restricted")
    torch.testing.assert_close(
        noise_of(call.x_t, call.t, step.x), step.noise[call.t > 0.1], atol=1e-5, rtol=0
    )
    shift = call.t - step.times.t
    assert shift.abs().max() <= 0.005 + 1e-6
    assert abs(shift.mean()) < 2e-4
    assert abs(shift.var() - 0.005**2 / 3) < 1e-6


@pytest.mark.parametrize("how", ["independent", "restricted"])
def test_views_depend_on_the_sample_alone(how):
    """Whatever the batch: rows 3 … 5 of eight are the same rows of three."""
    many, few = (second(toy_step(Draws(3, torch.arange(*rows))), how) for rows in ((8,), (3, 6)))
    assert torch.equal(many.x_t[3:6], few.x_t)
    assert torch.equal(many.t[3:6], few.t)
    epoch = Draws(3, torch.arange(8), torch.ones(8, dtype=torch.int64))
    assert not torch.equal(second(toy_step(epoch), how).t, many.t)


def test_times_end_where_the_interpolant_does():
    step = toy_step(ROWS)
    t = nearby(step, second_draws(step.draws), 0.4).t
    assert 0 <= t.min() < 0.01
    assert 0.99 < t.max() <= 1
    assert (t - step.times.t).abs().max() <= 0.4 + 1e-6


def test_a_time_beyond_what_is_sampled_stays_near():
    """The variance preserving path trains from 1e-5 on, and is sampled from 1e-3 on."""
    step = toy_step(ROWS, interpolant=VpConfig().build())
    step.times = Times(step.times.t * 1e-3)
    t = nearby(step, second_draws(step.draws), 1e-5).t
    assert (t - step.times.t).abs().max() <= 1.01e-5
    assert t.min() > 0


@pytest.mark.parametrize(("gap", "most"), [(0.005, 4), (1e-4, 0)])
def test_a_process_of_whole_steps_moves_by_whole_steps(gap, most):
    step = toy_step(ROWS, interpolant=DdpmConfig().build())
    moved = (nearby(step, second_draws(step.draws), gap).t - step.times.t) * 999
    torch.testing.assert_close(moved, moved.round(), atol=1e-3, rtol=0)
    assert moved.abs().max().round() == most


def test_two_times_stay_two():
    """MeanFlow: restricted keeps t - r, independent draws it too."""
    step = toy_step(ROWS, interpolant=MeanFlowConfig(two_times=0.5).build())
    kept, drawn = (second(step, how) for how in ("restricted", "independent"))
    assert torch.equal(kept.cond.span_B, step.times.span_B)
    span = drawn.cond.span_B
    assert not torch.equal(span, step.times.span_B)
    assert abs((span > 0).double().mean() - 0.5) < 0.05
    assert (span <= drawn.t).all()


class TokenTimes(StraightPath):
    """A time for each of four tokens."""

    def times(self, draws: Draws) -> Times:
        """(B, L)."""
        return Times(draws.uniform("tokens", (4,)))


@pytest.mark.parametrize("how", ["independent", "restricted"])
def test_token_times(how):
    step = toy_step(ROWS, interpolant=TokenTimes())
    call = second(step, how)
    assert call.t.shape == (4096, 4)
    expected = step.noise if how == "restricted" else second_draws(ROWS).normal("noise", (3, 2, 2))
    torch.testing.assert_close(call.x_t, step.interpolant.mix(step.x, expected, call.t))
    if how == "restricted":
        inside = (step.times.t - 0.5).abs().amax(1) < 0.49
        shift = (call.t - step.times.t)[inside]
        torch.testing.assert_close(shift, shift[:, :1].expand(-1, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["independent", "restricted"])
def test_the_whole_twin_by_explicit_loops(form, how):
    """Both views by hand, one definition a group, and the gradient of the network through both."""
    config = dispersive(
        form=form, positive=how, group=4, tap=(1, 2), **({"margin": 40.0} if form == "hinge" else {})
    )
    ours, plain = Toy(), Toy()
    draws = Draws(3, torch.arange(8))
    facts = attrs.evolve(FACTS, tap_widths={1: 5, 2: 5})
    result = config.build(facts)(toy_step(draws, ours, taps=(1, 2)))
    step = toy_step(draws, plain, taps=(1, 2))
    other = second_draws(draws)
    t = other.uniform("time")
    noise = other.normal("noise", (3, 2, 2))
    if how == "restricted":
        noise, t = step.noise, (step.times.t + 0.005 * (2 * other.uniform("gap") - 1)).clamp(0, 1)
    time = t.view(-1, 1, 1, 1)
    views = plain((1 - time) * step.x + time * noise, t, step.cond, taps=(1, 2)).hidden
    expected = (
        sum(
            define(form, step.prediction.hidden[tap][rows], views[tap][rows], margin=40.0)
            for tap in (1, 2)
            for rows in (slice(0, 4), slice(4, 8))
        )
        / 4
    )
    torch.testing.assert_close(result.value, expected, atol=1e-10, rtol=1e-6)
    result.value.backward()
    expected.backward()
    assert plain.weight.grad.abs().amax((1, 2)).min() > 0
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_gap_of_0_is_the_same_view_twice(form):
    step = toy_step(Draws(3, torch.arange(8)), interpolant=LinearConfig().build())
    config = dispersive(form=form, positive="restricted", positive_gap=0.0, group=8, tap=1)
    result = config.build(FACTS)(step)
    z = step.prediction.hidden[1]
    torch.testing.assert_close(result.value, define(form, z, z), atol=1e-12, rtol=1e-10)
    assert result.metrics["positive_distance"] == 0
    values = [
        attrs.evolve(config, positive_gap=gap).build(FACTS)(step).metrics["positive_distance"].item()
        for gap in (0.1, 0.01, 0.001)
    ]
    assert values[0] > 50 * values[1] > 2500 * values[2] > 0
