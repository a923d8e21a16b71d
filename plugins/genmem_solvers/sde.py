"""Solvers of the reverse SDE dx = (v - D s) dt + √(2 D) dW̄, from noise to data (GMem paper, eq. 5).

v is the velocity, s the score, D = w / 2 the diffusion. Shapes: x (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from genmem.contracts import Evaluate, Fields, Interpolant
from genmem.draws import Draws
from genmem.paths import spread
from genmem_solvers.diffusion import DiffusionForm, follow_process
from genmem_solvers.grids import fill_time, space_times

LastStep = Callable[[Tensor, Tensor, Fields, float], Tensor]
"""(x, drift, fields at (x, h), h) -> the sample."""

NEAREST_NOISE = 1 - 1e-3
"""Where a diffusion that is infinite at the noise begins."""

LEAST_ALPHA = 1e-3
"""Below this share of data, V = σ σ' - σ² α'/α counts as infinite."""


def follow_drift(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """The SDE's own step, without its noise."""
    return x - size * drift


def follow_flow(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """Euler's step on the ODE."""
    return x - size * fields.velocity


def take_mean(x: Tensor, drift: Tensor, fields: Fields, size: float) -> Tensor:
    """E[x | x_t], Tweedie's formula."""
    return fields.data


LAST_STEPS: Mapping[str, LastStep | None] = {
    "mean": follow_drift,
    "euler": follow_flow,
    "tweedie": take_mean,
    "none": None,
}


class Look(NamedTuple):
    """What one evaluation says about (x, t)."""

    drift: Tensor
    """v - D s."""

    diffusion: Tensor
    """D."""

    fields: Fields


@attrs.frozen(kw_only=True)
class SdeEuler:
    """Euler and Maruyama: x ← x + Δ (v - D s) + √(2 D |Δ|) z, z ~ N(0, I)."""

    steps: int
    """Those with noise."""

    shift: float
    form: DiffusionForm
    norm: float
    last_step: LastStep | None
    """Without noise from `size` to 0; None: the noisy steps go all the way, and nothing follows."""

    size: float

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x; step i adds the noise of purpose "sde/i"."""
        *inner, last = pairwise(self.times(evaluate.interpolant))
        for i, (t, after) in enumerate(inner):
            x = self.advance(evaluate, x, t, after, _noise(draws, i, x))
        t, after = last
        if self.last_step is None:
            # The score may be infinite at the end of the grid, so nothing is asked there.
            return SdeEuler.advance(self, evaluate, x, t, after, _noise(draws, len(inner), x))
        x = self.advance(evaluate, x, t, after, _noise(draws, len(inner), x))
        look = self.look(evaluate, x, after)
        return self.last_step(x, look.drift, look.fields, after)

    def times(self, interpolant: Interpolant) -> tuple[float, ...]:
        """The grid of the noisy steps.

        Raises:
            ValueError: A last step that begins where the process may not be asked.
        """
        low, high, _ = interpolant.limits()
        if self.last_step is not None:
            if not low <= self.size < high:
                raise ValueError(f"last_step_size must lie in {low:g} … {high:g} here, got {self.size:g}")
            low = self.size
        if self.form is follow_process:
            alpha = interpolant.coefficients(torch.tensor([high], dtype=torch.float64)).alpha
            high = high if alpha.item() > LEAST_ALPHA else min(high, NEAREST_NOISE)
        return space_times(self.steps, self.shift, low, high)

    def advance(self, evaluate: Evaluate, x: Tensor, t: float, after: float, z: Tensor) -> Tensor:
        """One step with the noise z."""
        look = self.look(evaluate, x, t)
        return x + (after - t) * look.drift + (2 * (t - after) * look.diffusion).sqrt() * z

    def look(self, evaluate: Evaluate, x: Tensor, t: float) -> Look:
        """Drift v - D s, diffusion D and the fields at (x, t), from one evaluation."""
        fields = evaluate(x, fill_time(t, x))
        diffusion = self.diffusion(evaluate.interpolant, x, t)
        return Look(fields.velocity - diffusion * fields.score, diffusion, fields)

    def diffusion(self, interpolant: Interpolant, x: Tensor, t: float) -> Tensor:
        """D(t), shaped to broadcast against x."""
        time = spread(fill_time(t, x), x)
        return self.form(time, interpolant.coefficients(time), self.norm)


class SdeHeun(SdeEuler):
    """SiT's Heun: x̂ = x + √(2 D |Δ|) z, then Heun's step on the drift from x̂, two evaluations."""

    def advance(self, evaluate: Evaluate, x: Tensor, t: float, after: float, z: Tensor) -> Tensor:
        """One step with the noise z."""
        diffusion = self.diffusion(evaluate.interpolant, x, t)
        x = x + (2 * (t - after) * diffusion).sqrt() * z
        k1 = self.look(evaluate, x, t).drift
        k2 = self.look(evaluate, x + (after - t) * k1, after).drift
        return x + 0.5 * (after - t) * (k1 + k2)


def _noise(draws: Draws, step: int, x: Tensor) -> Tensor:
    return draws.normal(f"sde/{step}", tuple(x.shape[1:])).to(x)
