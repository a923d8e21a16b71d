"""Samplers: solvers of the probability-flow ODE and of the reverse SDE, DDPM's and MeanFlow's own;
and classifier-free guidance."""

from __future__ import annotations

from typing import Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Guidance, GuidanceConfig, SamplerConfig
from genmem_solvers.configs import (
    DdimConfig,
    DdpmConfig,
    Dopri5Config,
    EulerConfig,
    HeunConfig,
    MeanFlowConfig,
    Rk4Config,
    SdeEulerConfig,
    SdeHeunConfig,
)

__all__ = [
    "CfgConfig",
    "DdimConfig",
    "DdpmConfig",
    "Dopri5Config",
    "EulerConfig",
    "HeunConfig",
    "MeanFlowConfig",
    "Rk4Config",
    "SdeEulerConfig",
    "SdeHeunConfig",
]


@attrs.frozen(kw_only=True)
class CfgConfig(GuidanceConfig):
    """Classifier-free guidance u + scale · (c - u), inside an interval of times."""

    scale: float = attrs.field(validator=attrs.validators.ge(0.0))
    """1 is none."""

    channels: int | Literal["all"] = attrs.field(default="all")
    """Guide all of a sample's channels, or the first so many (3 in SiT, DiT and LightningDiT)."""

    interval: tuple[float, float] = (0.0, 1.0)
    """Times t that are guided, both ends included; outside, the network is not asked without
    condition. Nowhere where the first is above the second."""

    @channels.validator
    def _check_channels(self, _: object, value: int | str) -> None:
        if isinstance(value, int) and value < 1:
            raise ValueError(f'channels must be "all" or 1 and more, got {value}')

    @property
    def needs_drop(self) -> bool:
        """Unless the scale is 1 or the interval empty."""
        return self.scale != 1.0 and self.interval[0] <= self.interval[1]

    def build(self) -> Guidance:
        """A `genmem_solvers.guidance.ClassifierFree`."""
        from genmem_solvers.guidance import ClassifierFree

        return ClassifierFree(self.scale, self.channels, *self.interval)


@hookimpl
def genmem_samplers() -> dict[str, type[SamplerConfig]]:
    """The samplers of this plugin."""
    return {
        "euler": EulerConfig,
        "heun": HeunConfig,
        "rk4": Rk4Config,
        "dopri5": Dopri5Config,
        "sde-euler": SdeEulerConfig,
        "sde-heun": SdeHeunConfig,
        "ddpm": DdpmConfig,
        "ddim": DdimConfig,
        "meanflow": MeanFlowConfig,
    }


@hookimpl
def genmem_guidances() -> dict[str, type[GuidanceConfig]]:
    """The guidances of this plugin."""
    return {"cfg": CfgConfig}
