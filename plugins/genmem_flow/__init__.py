"""Interpolants on affine paths. Here: `linear`."""

from __future__ import annotations

from typing import Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Interpolant, InterpolantConfig

_above_0 = attrs.validators.optional(attrs.validators.gt(0.0))


@attrs.frozen(kw_only=True)
class TimedConfig(InterpolantConfig):
    """An interpolant whose training times follow a named law."""

    time: Literal["uniform", "logit-normal"] = "uniform"
    """Law of the training times: U(0, 1), or t = sigmoid(N(mean, deviation²))."""

    time_mean: float | None = None
    """Mean of the logit-normal law, 0 if absent; below 0 trains more near the data."""

    time_std: float | None = attrs.field(default=None, validator=_above_0)
    """Deviation of the logit-normal law, 1 if absent."""

    def __attrs_post_init__(self) -> None:
        for name, value in (("time_mean", self.time_mean), ("time_std", self.time_std)):
            if value is not None and self.time != "logit-normal":
                raise ValueError(f'{name} belongs to time = "logit-normal", but time is "{self.time}"')


@attrs.frozen(kw_only=True)
class LinearConfig(TimedConfig):
    """Linear path x_t = (1 - t) x + t ε: rectified flow, and SiT's default."""

    def build(self) -> Interpolant:
        """A `genmem_flow.linear.Linear`."""
        from genmem_flow.linear import Linear
        from genmem_flow.times import law_of

        return Linear(law_of(self))


@hookimpl
def genmem_interpolants() -> dict[str, type[InterpolantConfig]]:
    """The interpolants of this plugin."""
    return {"linear": LinearConfig}
