"""Samplers: numerical solvers of the probability-flow ODE and of the reverse SDE."""

from __future__ import annotations

from typing import Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Sampler, SamplerConfig

_at_least_1 = attrs.validators.ge(1)
_above_0 = attrs.validators.gt(0.0)
_inside_0_1 = attrs.validators.and_(attrs.validators.gt(0.0), attrs.validators.lt(1.0))


@attrs.frozen(kw_only=True)
class GridConfig(SamplerConfig):
    """A sampler on a fixed grid of times from 1 to 0."""

    steps: int = attrs.field(default=50, validator=_at_least_1)
    """Steps from noise to data. (SiT's and LightningDiT's code counts the grid's points: one more.)"""

    shift: float = attrs.field(default=1.0, validator=_above_0)
    """Timestep shift s: t = u / (s + (1 - s) u) for u evenly spaced. Below 1 puts more steps
    near the noise; 1 is none. LightningDiT's `timestep_shift` as it is, SD3's as 1 / s."""


@attrs.frozen(kw_only=True)
class EulerConfig(GridConfig):
    """Euler's method on the ODE: first order, one evaluation a step."""

    @property
    def evaluations(self) -> int:
        """As many as steps."""
        return self.steps

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.Euler`."""
        from genmem_solvers.grids import space_times
        from genmem_solvers.ode import Euler

        return Euler(space_times(self.steps, self.shift))


@attrs.frozen(kw_only=True)
class HeunConfig(GridConfig):
    """Heun's method on the ODE: second order, two evaluations a step and one in the last."""

    @property
    def evaluations(self) -> int:
        """2 · steps - 1: the last step is Euler's, so that the network is never asked at t = 0."""
        return 2 * self.steps - 1

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.Heun`."""
        from genmem_solvers.grids import space_times
        from genmem_solvers.ode import Heun

        return Heun(space_times(self.steps, self.shift))


@attrs.frozen(kw_only=True)
class SdeEulerConfig(GridConfig):
    """Euler and Maruyama's method on the reverse SDE, one evaluation a step."""

    steps: int = attrs.field(default=50, validator=attrs.validators.ge(2))
    """Evaluations: steps - 1 with noise from t = 1 to the last step's size, and one without."""

    diffusion: Literal["constant", "sigma", "linear", "decreasing", "increasing-decreasing"] = "sigma"
    """Form of the diffusion D(t) = w(t) / 2: see the plugin's README."""

    diffusion_norm: float = attrs.field(default=1.0, validator=_above_0)
    """Its scale n."""

    last_step: Literal["mean", "euler", "tweedie"] = "mean"
    """The noiseless last step: along the SDE's drift, along the ODE's, or to E[x | x_t]."""

    last_step_size: float = attrs.field(default=0.04, validator=_inside_0_1)
    """Its size; t = 0 itself has no score."""

    @property
    def evaluations(self) -> int:
        """As many as steps."""
        return self.steps

    def build(self) -> Sampler:
        """A `genmem_solvers.sde.SdeEuler`."""
        from genmem_solvers.diffusion import DIFFUSIONS
        from genmem_solvers.grids import space_times
        from genmem_solvers.sde import LAST_STEPS, SdeEuler

        times = space_times(self.steps - 1, self.shift, end=self.last_step_size)
        form = DIFFUSIONS[self.diffusion]
        return SdeEuler(times, form, self.diffusion_norm, LAST_STEPS[self.last_step])


@hookimpl
def genmem_samplers() -> dict[str, type[SamplerConfig]]:
    """The samplers of this plugin."""
    return {"euler": EulerConfig, "heun": HeunConfig, "sde-euler": SdeEulerConfig}
