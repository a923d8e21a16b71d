"""Solvers of the probability-flow ODE dx/dt = v(x, t), from t = 1 to t = 0.

Shapes: x (B, C, H, W).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from genmem.contracts import Evaluate
from genmem.draws import Draws
from genmem_solvers.grids import fill_time


class Euler:
    """x ← x + Δ v(x, t)."""

    def __init__(self, times: tuple[float, ...]) -> None:
        """A solver on these times, decreasing."""
        self.times = times

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x along the grid; draws nothing."""
        for t, after in pairwise(self.times):
            x = x + (after - t) * evaluate(x, fill_time(t, x)).velocity
        return x


class Heun:
    """x ← x + Δ/2 (v(x, t) + v(x + Δ v(x, t), t + Δ)); Euler's step in the last interval."""

    def __init__(self, times: tuple[float, ...]) -> None:
        """A solver on these times, decreasing."""
        self.times = times

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x along the grid; draws nothing."""
        *inner, last = pairwise(self.times)
        for t, after in inner:
            v = evaluate(x, fill_time(t, x)).velocity
            v_after = evaluate(x + (after - t) * v, fill_time(after, x)).velocity
            x = x + 0.5 * (after - t) * (v + v_after)
        t, after = last
        return x + (after - t) * evaluate(x, fill_time(t, x)).velocity
