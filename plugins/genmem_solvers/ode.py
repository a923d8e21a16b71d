"""Solvers of the probability-flow ODE dx/dt = v(x, t) on a grid, from noise to data.

Shapes: x (B, C, H, W).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from genmem.contracts import Evaluate
from genmem.draws import Draws
from genmem_solvers.grids import Grid, fill_time


class Euler:
    """x ← x + Δ v(x, t)."""

    def __init__(self, grid: Grid) -> None:
        """A solver on this grid."""
        self.grid = grid

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x along the grid; draws nothing."""
        for t, after in pairwise(self.grid.over(evaluate.interpolant.limits())):
            x = x + (after - t) * evaluate(x, fill_time(t, x)).velocity
        return x


class Heun:
    """x ← x + Δ/2 (v(x, t) + v(x + Δ v(x, t), t + Δ)); Euler's step in the last interval."""

    def __init__(self, grid: Grid) -> None:
        """A solver on this grid."""
        self.grid = grid

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x along the grid; draws nothing."""
        *inner, last = pairwise(self.grid.over(evaluate.interpolant.limits()))
        for t, after in inner:
            v = evaluate(x, fill_time(t, x)).velocity
            v_after = evaluate(x + (after - t) * v, fill_time(after, x)).velocity
            x = x + 0.5 * (after - t) * (v + v_after)
        t, after = last
        return x + (after - t) * evaluate(x, fill_time(t, x)).velocity


class RungeKutta:
    """Kutta's 3/8 rule: x ← x + Δ/8 (k1 + 3 k2 + 3 k3 + k4). torchdiffeq's rk4 is the same."""

    def __init__(self, grid: Grid) -> None:
        """A solver on this grid."""
        self.grid = grid

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x along the grid; draws nothing."""
        for t, after in pairwise(self.grid.over(evaluate.interpolant.limits())):
            size = after - t
            k1 = evaluate(x, fill_time(t, x)).velocity
            k2 = evaluate(x + size / 3 * k1, fill_time(t + size / 3, x)).velocity
            k3 = evaluate(x + size * (k2 - k1 / 3), fill_time(t + 2 * size / 3, x)).velocity
            k4 = evaluate(x + size * (k1 - k2 + k3), fill_time(after, x)).velocity
            x = x + size / 8 * (k1 + 3 * k2 + 3 * k3 + k4)
        return x


class AverageVelocity:
    """MeanFlow's sampler: x ← x - (t - r) u(x, r, t), exact for an exact average velocity."""

    def __init__(self, grid: Grid) -> None:
        """A sampler on this grid."""
        self.grid = grid

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Leap along the grid; draws nothing."""
        for t, r in pairwise(self.grid.over(evaluate.interpolant.limits())):
            x = x - (t - r) * evaluate(x, fill_time(t, x), fill_time(t - r, x)).velocity
        return x
