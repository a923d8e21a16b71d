"""The second view of a contrastive twin: the same samples, noisy in another way, seen once more.

Shapes: B micro-batch, L tokens, D width. Time: t = 0 is data, t = 1 is noise.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from genmem.contracts import Step, Times
from genmem.draws import Draws, key_of


def see_again(
    step: Step, taps: tuple[int, ...], how: Literal["independent", "restricted"], gap: float
) -> dict[int, Tensor]:
    """Hidden states (B, L, D) of a second view at `taps`, with gradient; one forward up to the last.

    What is drawn depends on seed, sample and epoch alone, as everything drawn in a run.
    """
    draws = second_draws(step.draws)
    if how == "independent":
        times, noise = step.interpolant.times(draws), draws.normal("noise", tuple(step.x.shape[1:]))
    else:
        times, noise = nearby(step, draws, gap), step.noise
    x_t = step.interpolant.mix(step.x, noise, times.t)
    cond = step.cond._replace(span_B=times.span_B)
    return step.again(x_t, times.t, cond, taps=taps, until=max(taps)).hidden


def second_draws(draws: Draws) -> Draws:
    """The same rows under another seed, so that no number of the first view comes again."""
    low, high = key_of(draws.seed, "dispersive/second-view")
    return Draws(high << 32 | low, draws.index_B, draws.round_B)


def nearby(step: Step, draws: Draws, gap: float) -> Times:
    """t' ~ U(t - gap, t + gap), held inside the times a sampler may ask; a span is kept.

    Token times move together. Where only whole steps are known, it moves by whole steps.
    """
    low, high, steps = step.interpolant.limits()
    t = step.times.t
    shift = gap * (2 * draws.uniform("gap") - 1)
    if steps is not None:
        between = (high - low) / (steps - 1)
        shift = (shift / between).trunc() * between
    # A time already outside (training may go further than sampling) is no reason to move far.
    moved = t + shift.view(-1, *[1] * (t.ndim - 1))
    return Times(moved.clamp(t.clamp(max=low), t.clamp(min=high)), step.times.span_B)
