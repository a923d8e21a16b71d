"""Settings of the samplers. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from genmem.contracts import Sampler, SamplerConfig

if TYPE_CHECKING:
    from genmem_solvers.grids import Grid
    from genmem_solvers.sde import SdeEuler

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

    @property
    def evaluations(self) -> int:
        """As many as steps."""
        return self.steps

    @property
    def grid(self) -> Grid:
        """Steps and shift, below the torch line."""
        from genmem_solvers.grids import Grid

        return Grid(self.steps, self.shift)


@attrs.frozen(kw_only=True)
class EulerConfig(GridConfig):
    """Euler's method on the ODE: first order, one evaluation a step."""

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.Euler`."""
        from genmem_solvers.ode import Euler

        return Euler(self.grid)


@attrs.frozen(kw_only=True)
class HeunConfig(GridConfig):
    """Heun's method on the ODE: second order, two evaluations a step and one in the last."""

    @property
    def evaluations(self) -> int:
        """2 · steps - 1: the last step is Euler's, so that the network is never asked at t = 0."""
        return 2 * self.steps - 1

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.Heun`."""
        from genmem_solvers.ode import Heun

        return Heun(self.grid)


@attrs.frozen(kw_only=True)
class Rk4Config(GridConfig):
    """Kutta's 3/8 rule on the ODE: fourth order, four evaluations a step, the last one at t = 0."""

    @property
    def evaluations(self) -> int:
        """4 · steps."""
        return 4 * self.steps

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.RungeKutta`."""
        from genmem_solvers.ode import RungeKutta

        return RungeKutta(self.grid)


@attrs.frozen(kw_only=True)
class Dopri5Config(SamplerConfig):
    """Dormand and Prince's adaptive method on the ODE, with a step size of its own for every sample."""

    rtol: float = attrs.field(default=1e-3, validator=_above_0)
    """Error allowed in a step, relative to the sample's size; 1e-3 is SiT's."""

    atol: float = attrs.field(default=1e-6, validator=_above_0)
    """The same, absolute."""

    max_steps: int = attrs.field(default=1000, validator=_at_least_1)
    """Attempted steps of a sample, after which sampling fails rather than goes on."""

    @property
    def evaluations(self) -> None:
        """They depend on the sample: two, and six for each attempted step."""

    def build(self) -> Sampler:
        """A `genmem_solvers.adaptive.DormandPrince`."""
        from genmem_solvers.adaptive import DormandPrince

        return DormandPrince(rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)


@attrs.frozen(kw_only=True)
class SdeConfig(GridConfig):
    """A sampler of the reverse SDE: steps with noise, and a last one without."""

    steps: int = attrs.field(default=50, validator=attrs.validators.ge(2))
    """One less with noise, from t = 1 to the last step's size, and the last one without."""

    diffusion: Literal["constant", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing"] = "sigma"
    """Form of the diffusion D(t) = w(t) / 2: see the plugin's README."""

    diffusion_norm: float = attrs.field(default=1.0, validator=_above_0)
    """Its scale n."""

    last_step: Literal["mean", "euler", "tweedie", "none"] = "mean"
    """The noiseless last step: along the SDE's drift, along the ODE's, or to E[x | x_t]. With "none"
    there is none, and the steps with noise go all the way."""

    last_step_size: float = attrs.field(default=0.04, validator=_inside_0_1)
    """Its size; t = 0 itself has no score."""

    def _fill(self, solver: type[SdeEuler]) -> SdeEuler:
        from genmem_solvers.diffusion import DIFFUSIONS
        from genmem_solvers.sde import LAST_STEPS

        return solver(
            steps=self.steps - 1,
            shift=self.shift,
            form=DIFFUSIONS[self.diffusion],
            norm=self.diffusion_norm,
            last_step=LAST_STEPS[self.last_step],
            size=self.last_step_size,
        )


@attrs.frozen(kw_only=True)
class SdeEulerConfig(SdeConfig):
    """Euler and Maruyama's method on the reverse SDE, one evaluation a step."""

    @property
    def evaluations(self) -> int:
        """As many as steps; one less without a last step."""
        return self.steps - (self.last_step == "none")

    def build(self) -> Sampler:
        """A `genmem_solvers.sde.SdeEuler`."""
        from genmem_solvers.sde import SdeEuler

        return self._fill(SdeEuler)


@attrs.frozen(kw_only=True)
class SdeHeunConfig(SdeConfig):
    """SiT's Heun on the reverse SDE: two evaluations a step with noise. GMem's released sampler with
    steps = 50, diffusion = "linear" and last_step_size = 0.004."""

    @property
    def evaluations(self) -> int:
        """2 · steps - 1; two less without a last step, where the last step with noise is Euler's."""
        return 2 * self.steps - (3 if self.last_step == "none" else 1)

    def build(self) -> Sampler:
        """A `genmem_solvers.sde.SdeHeun`."""
        from genmem_solvers.sde import SdeHeun

        return self._fill(SdeHeun)


@attrs.frozen(kw_only=True)
class DdpmConfig(GridConfig):
    """DDPM's ancestral sampler on evenly respaced steps."""

    steps: int = attrs.field(default=250, validator=_at_least_1)
    """Steps kept of the process, first and last included."""

    variance: Literal["small", "large"] = "small"
    """Of a step where the network learns none: the posterior's β̃, or β."""

    def build(self) -> Sampler:
        """A `genmem_solvers.ancestral.Ancestral`."""
        from genmem_solvers.ancestral import Ancestral

        return Ancestral(self.grid, self.variance)


@attrs.frozen(kw_only=True)
class DdimConfig(GridConfig):
    """DDIM without noise (η = 0). On the linear path it is Euler's method."""

    def build(self) -> Sampler:
        """A `genmem_solvers.ancestral.Ddim`."""
        from genmem_solvers.ancestral import Ddim

        return Ddim(self.grid)


@attrs.frozen(kw_only=True)
class MeanFlowConfig(GridConfig):
    """MeanFlow's sampler: leaps by the average velocity, one evaluation each."""

    steps: int = attrs.field(default=1, validator=_at_least_1)
    """Leaps from noise to data."""

    @property
    def asks(self) -> frozenset[str]:
        """The span t - r."""
        return frozenset({"span"})

    def build(self) -> Sampler:
        """A `genmem_solvers.ode.AverageVelocity`."""
        from genmem_solvers.ode import AverageVelocity

        return AverageVelocity(self.grid)
