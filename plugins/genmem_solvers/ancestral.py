"""DDPM's ancestral sampler and DDIM, on any affine path.

From t to s < t with a = α_t / α_s and β = σ_t² - a² σ_s² (for DDPM 1 - ᾱ_t / ᾱ_s, the β of the
shortened chain), the posterior of x_s given x_t and data x is normal with
mean (a σ_s² x_t + α_s β x) / σ_t² and variance β̃ = β σ_s² / σ_t². Shapes: x (B, C, H, W).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genmem.contracts import Evaluate, Fields
from genmem.draws import Draws
from genmem_solvers.grids import Grid, fill_time


class Place(NamedTuple):
    """α and σ at one time, scalars in float64."""

    alpha: float
    sigma: float


DATA = Place(1.0, 0.0)


def visit(evaluate: Evaluate, grid: Grid) -> list[tuple[float, Place, Place]]:
    """(time to ask at, place there, place after) of every step; the last leaps to the data."""
    interpolant = evaluate.interpolant
    times = grid.visits(interpolant.limits())
    path = interpolant.coefficients(torch.tensor(times, dtype=torch.float64))
    places = [Place(*pair) for pair in zip(path.alpha.tolist(), path.sigma.tolist(), strict=True)]
    return [(t, *pair) for t, pair in zip(times, pairwise([*places, DATA]), strict=True)]


class Ddim:
    """DDIM without noise (Song et al. 2021, eq. 12, η = 0): x_s = α_s x̂ + σ_s ε̂."""

    def __init__(self, grid: Grid) -> None:
        """A sampler on this grid."""
        self.grid = grid

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """From noise to data; draws nothing."""
        for t, _, after in visit(evaluate, self.grid):
            fields = evaluate(x, fill_time(t, x))
            x = after.alpha * fields.data + (after.sigma * fields.noise if after.sigma else 0.0)
        return x


class Ancestral:
    """DDPM (Ho et al. 2020, algorithm 2), with the learned variance where there is one."""

    def __init__(self, grid: Grid, fixed: Literal["small", "large"]) -> None:
        """A sampler on this grid; β̃ or β is the variance where none is learned."""
        self.grid = grid
        self.fixed = fixed

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """From noise to data; step i adds the noise of purpose "ancestral/i", the last none."""
        for i, (t, now, after) in enumerate(visit(evaluate, self.grid)):
            fields = evaluate(x, fill_time(t, x))
            ratio = now.alpha / after.alpha
            beta = now.sigma**2 - (ratio * after.sigma) ** 2
            mean = (ratio * after.sigma**2 * x + after.alpha * beta * fields.data) / now.sigma**2
            if not after.sigma:
                return mean
            z = draws.normal(f"ancestral/{i}", tuple(x.shape[1:])).to(x)
            x = mean + self._variance(fields, beta, beta * (after.sigma / now.sigma) ** 2).sqrt() * z
        return x

    def _variance(self, fields: Fields, beta: float, posterior: float) -> Tensor:
        """log Σ = place · log β + (1 - place) · log β̃ (Nichol and Dhariwal 2021, eq. 15)."""
        large, small = (torch.tensor(value, dtype=torch.float64) for value in (beta, posterior))
        if fields.variance is None:
            return small if self.fixed == "small" else large
        place = fields.variance
        return (place * large.log().item() + (1 - place) * small.log().item()).exp()
