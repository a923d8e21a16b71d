"""Solvers of the reverse SDE dx = (v - D s) dt + √(2 D) dW̄, from t = 1 to t = 0 (GMem paper, eq. 5).

v is the velocity, s the score, D = w / 2 the diffusion. Shapes: x (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from torch import Tensor

from genmem.contracts import Evaluate, Fields
from genmem.draws import Draws
from genmem.paths import spread
from genmem_solvers.diffusion import DiffusionForm
from genmem_solvers.grids import fill_time

LastStep = Callable[[Tensor, Tensor, Fields, float], Tensor]
"""(x, drift, fields at (x, h), h) -> the sample."""


def follow_drift(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """The SDE's own step, without its noise."""
    return x - size * drift


def follow_flow(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """Euler's step on the ODE."""
    return x - size * fields.velocity


def take_mean(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """E[x | x_t], Tweedie's formula."""
    return fields.data


LAST_STEPS: Mapping[str, LastStep] = {"mean": follow_drift, "euler": follow_flow, "tweedie": take_mean}


class SdeEuler:
    """Euler and Maruyama: x ← x + Δ (v - D s) + √(2 D |Δ|) z, z ~ N(0, I)."""

    def __init__(
        self, times: tuple[float, ...], diffusion: DiffusionForm, norm: float, last_step: LastStep
    ) -> None:
        """A solver with noise along `times`, decreasing; then one step from the last of them to 0."""
        self.times = times
        self.diffusion = diffusion
        self.norm = norm
        self.last_step = last_step

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x; step i adds the noise of purpose "sde/i"."""
        for i, (t, after) in enumerate(pairwise(self.times)):
            drift, diffusion, _ = self._look(evaluate, x, t)
            z = draws.normal(f"sde/{i}", tuple(x.shape[1:])).to(x)
            x = x + (after - t) * drift + (2 * diffusion).sqrt() * math.sqrt(t - after) * z
        size = self.times[-1]
        drift, _, fields = self._look(evaluate, x, size)
        return self.last_step(x, drift, fields, size)

    def _look(self, evaluate: Evaluate, x: Tensor, t: float) -> tuple[Tensor, Tensor, Fields]:
        """Drift v - D s, diffusion D and the fields at (x, t), from one evaluation."""
        t_B = fill_time(t, x)
        fields = evaluate(x, t_B)
        time = spread(t_B, x)
        diffusion = self.diffusion(time, evaluate.interpolant.coefficients(time), self.norm)
        return fields.velocity - diffusion * fields.score, diffusion, fields
