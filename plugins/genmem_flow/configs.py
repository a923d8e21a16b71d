"""Settings of the interpolants. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from genmem.contracts import Interpolant, InterpolantConfig

if TYPE_CHECKING:
    from genmem_flow.curves import Training

_above_0 = attrs.validators.gt(0.0)
_maybe_above_0 = attrs.validators.optional(_above_0)
_small = attrs.validators.optional(attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(0.5)))
_share = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.le(1.0))

LAW_OF: dict[str, str] = {"time_mean": "logit-normal", "time_std": "logit-normal", "time_shift": "shifted"}


@attrs.frozen(kw_only=True)
class TimedConfig(InterpolantConfig):
    """An interpolant whose training times follow a named law."""

    time: Literal["uniform", "logit-normal", "shifted"] = "uniform"
    """Law of the training times: U(0, 1), t = sigmoid(N(mean, deviation²)), or t = u / (s + (1 - s) u)."""

    time_mean: float | None = None
    """Mean of the logit-normal law, 0 if absent; below 0 trains more near the data."""

    time_std: float | None = attrs.field(default=None, validator=_maybe_above_0)
    """Deviation of the logit-normal law, 1 if absent."""

    time_shift: float | None = attrs.field(default=None, validator=_maybe_above_0)
    """Shift s of the shifted law, as the samplers' `shift`: below 1 trains more near the noise."""

    def __attrs_post_init__(self) -> None:
        for name, law in LAW_OF.items():
            if getattr(self, name) is not None and self.time != law:
                raise ValueError(f'{name} belongs to time = "{law}", but time is "{self.time}"')
        if self.time == "shifted" and self.time_shift is None:
            raise ValueError('time = "shifted" needs time_shift')


@attrs.frozen(kw_only=True)
class CurveConfig(TimedConfig):
    """A continuous path: what the network predicts, what its errors count, and where."""

    regular_at_noise: ClassVar[bool] = False
    """Whether α stays above 0 at t = 1, so that every output says something there."""

    least_eps: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """eps of training and of sampling for velocity; the others take at least 1e-3."""

    target: Literal["velocity", "noise", "score", "x0"] = "velocity"
    """What the network predicts; everything else is computed from it."""

    weight: Literal["none", "velocity", "likelihood", "min-snr"] = "none"
    """What errors count: each as they are, as errors of the velocity, as in the likelihood bound, or
    with the signal-to-noise ratio clipped at `gamma`."""

    gamma: float = attrs.field(default=5.0, validator=_above_0)
    """Where the signal-to-noise ratio is clipped, for min-snr."""

    train_eps: float | None = attrs.field(default=None, validator=_small)
    """Distance of the training times from the ends that are singular; absent: the table in the README."""

    sample_eps: float | None = attrs.field(default=None, validator=_small)
    """The same for sampling."""

    @property
    def predicts_velocity(self) -> bool:
        """For the target velocity."""
        return self.target == "velocity"

    @property
    def training(self) -> Training:
        """All of it, below the torch line."""
        from genmem.contracts import TimeRange
        from genmem_flow.curves import Training
        from genmem_flow.times import law_of

        singular = self.target != "velocity" or self.weight not in ("none", "velocity")
        floor = 1e-3 if singular and not self.regular_at_noise else 0.0
        given = (self.train_eps, self.sample_eps)
        train, sample = (
            TimeRange(eps, 1.0 if self.regular_at_noise or not singular else 1.0 - eps)
            for eps in (
                max(least, floor) if value is None else value
                for least, value in zip(self.least_eps, given, strict=True)
            )
        )
        return Training(
            law=law_of(self),
            predicts=self.target,
            weight=self.weight,
            gamma=self.gamma,
            train=train,
            sample=sample,
        )


@attrs.frozen(kw_only=True)
class LinearConfig(CurveConfig):
    """Linear path x_t = (1 - t) x + t ε: rectified flow, and SiT's default."""

    def build(self) -> Interpolant:
        """A `genmem_flow.curves.Linear`."""
        from genmem_flow.curves import Linear

        return Linear(self.training)


@attrs.frozen(kw_only=True)
class CosineConfig(CurveConfig):
    """Cosine path x_t = cos(πt/2) x + sin(πt/2) ε: SiT's GVP."""

    def build(self) -> Interpolant:
        """A `genmem_flow.curves.Cosine`."""
        from genmem_flow.curves import Cosine

        return Cosine(self.training)


@attrs.frozen(kw_only=True)
class VpConfig(CurveConfig):
    """Variance preserving path of a linear β schedule, as SiT's VP."""

    regular_at_noise = True
    least_eps = (1e-5, 1e-3)

    beta_min: float = attrs.field(default=0.1, validator=_above_0)
    """β at the data."""

    beta_max: float = attrs.field(default=20.0, validator=_above_0)
    """β at the noise; 20 leaves 0.7 % of the data there."""

    def build(self) -> Interpolant:
        """A `genmem_flow.curves.VariancePreserving`."""
        from genmem_flow.curves import VariancePreserving

        return VariancePreserving(self.training, self.beta_min, self.beta_max)


@attrs.frozen(kw_only=True)
class DdpmConfig(InterpolantConfig):
    """DDPM as in DiT: noise prediction on whole steps, with a learned variance."""

    steps: int = attrs.field(default=1000, validator=attrs.validators.ge(2))
    """Steps T of the process; step k = 0 … T - 1 is at t = k / (T - 1)."""

    beta_min: float = attrs.field(default=1e-4, validator=_above_0)
    """β of the first step."""

    beta_max: float = attrs.field(default=0.02, validator=attrs.validators.lt(1.0))
    """β of the last; evenly spaced between."""

    learn_variance: bool = True
    """A second set of channels places the variance of a reverse step between its bounds; L_vlb
    trains those alone."""

    def __attrs_post_init__(self) -> None:
        if self.beta_max <= self.beta_min:
            raise ValueError(f"beta_max ({self.beta_max}) must be above beta_min ({self.beta_min})")

    @property
    def predicts_velocity(self) -> bool:
        """Never: it predicts noise."""
        return False

    def output_channels(self, channels: int) -> int:
        """Twice as many where the variance is learned."""
        return 2 * channels if self.learn_variance else channels

    def build(self) -> Interpolant:
        """A `genmem_flow.ddpm.Ddpm`."""
        from genmem_flow.ddpm import Ddpm

        return Ddpm(self.steps, self.beta_min, self.beta_max, self.learn_variance)


@attrs.frozen(kw_only=True)
class MeanFlowConfig(TimedConfig):
    """MeanFlow: the average velocity over [r, t] on the linear path, for samples in one evaluation."""

    time: Literal["uniform", "logit-normal", "shifted"] = "logit-normal"
    """Law of both times, drawn independently; t is the later (nearer to noise), r the earlier."""

    time_mean: float | None = None
    """Mean of the logit-normal law, -0.4 if absent."""

    two_times: float = attrs.field(default=0.25, validator=_share)
    """Share of samples with r below t; for the rest r = t, where the average velocity is the velocity."""

    power: float = attrs.field(default=1.0, validator=attrs.validators.ge(0.0))
    """p of the adaptive weight 1 / (error + c)^p; 0 is none."""

    floor: float = attrs.field(default=0.01, validator=_above_0)
    """c of the adaptive weight."""

    omega: float = attrs.field(default=1.0, validator=_above_0)
    """ω of guidance in training; 1 with kappa 0 is none. The scale is ω / (1 - κ)."""

    kappa: float = attrs.field(
        default=0.0, validator=attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(1.0))
    )
    """κ: share of the network's own conditional output in the guided velocity."""

    interval: tuple[float, float] = (0.0, 1.0)
    """Times t that are guided in training, both ends included."""

    @property
    def consumes(self) -> frozenset[str]:
        """The span t - r."""
        return frozenset({"span"})

    def build(self) -> Interpolant:
        """A `genmem_flow.meanflow.MeanFlow`."""
        from genmem_flow.meanflow import MeanFlow
        from genmem_flow.times import law_of

        timed = attrs.evolve(self, time_mean=-0.4) if self._mean_is_absent else self
        return MeanFlow(law_of(timed), self)

    @property
    def _mean_is_absent(self) -> bool:
        return self.time == "logit-normal" and self.time_mean is None
