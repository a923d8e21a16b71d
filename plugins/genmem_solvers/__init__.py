"""Samplers: solvers of the probability-flow ODE and of the reverse SDE, DDPM's and MeanFlow's own;
and classifier-free guidance."""

from __future__ import annotations

from genmem import hookimpl
from genmem.contracts import GuidanceConfig, SamplerConfig
from genmem_solvers.configs import (
    CfgConfig,
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
