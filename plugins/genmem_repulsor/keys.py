"""What averages of the weights see: keys to store, and a positive.

Shapes: B micro-batch, L tokens, D hidden width, E memory width. Time: t = 0 is data, t = 1 is noise.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from genmem.contracts import Step, Times


class Average(nn.Module):
    """An exponential average of a head: in the state, never trained."""

    def __init__(self, head: nn.Module, decay: float) -> None:
        """Begin equal to it."""
        super().__init__()
        self.module = copy.deepcopy(head).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, E)."""
        projected: Tensor = self.module(hidden_BLD)
        return projected

    @torch.no_grad()
    def follow(self, head: nn.Module, keep: Tensor) -> None:
        """θ' ← θ' + (1 - decay)(θ - θ'), if `keep`."""
        for slow, fast in zip(self.module.parameters(), head.parameters(), strict=True):
            slow.lerp_(fast.detach(), (keep * (1.0 - self.decay)).to(slow))


def see_with(step: Step, times: Times, tap: int, weights: str) -> Tensor:
    """The hidden state (B, L, D) of averaged weights for the step's noise at other times.

    One forward, of the blocks up to the tap.
    """
    x_t = step.x_t if times is step.times else step.interpolant.mix(step.x, step.noise, times.t)
    cond = step.cond._replace(span_B=times.span_B)
    return step.again(x_t, times.t, cond, taps=(tap,), until=tap, weights=weights).hidden[tap]


def nearer_data(step: Step, gap: float) -> Times:
    """t' = max(0, t - U[0, gap)), or the earliest time there is; a span ends at 0 at the latest.

    Token times move together. Where only whole steps are known, it moves by whole steps.
    """
    low, high, steps = step.interpolant.limits()
    t, span_B = step.times
    shift_B = gap * step.draws.uniform("repulsor/positive")
    if steps is not None:
        between = (high - low) / (steps - 1)
        shift_B = (shift_B / between).floor() * between
    moved = t - shift_B.view(-1, *[1] * (t.ndim - 1))
    # A time already outside (training may go further than sampling) stays.
    nearer = moved.clamp(min=t.clamp(max=low))
    return Times(nearer, None if span_B is None else torch.minimum(span_B, nearer))
