"""Interpolants on affine paths: `linear`, `cosine`, `vp`, `ddpm`, `meanflow`."""

from __future__ import annotations

from genmem import hookimpl
from genmem.contracts import InterpolantConfig
from genmem_flow.configs import (
    CosineConfig,
    DdpmConfig,
    LinearConfig,
    MeanFlowConfig,
    TimedConfig,
    VpConfig,
)

__all__ = ["CosineConfig", "DdpmConfig", "LinearConfig", "MeanFlowConfig", "TimedConfig", "VpConfig"]


@hookimpl
def genmem_interpolants() -> dict[str, type[InterpolantConfig]]:
    """The interpolants of this plugin."""
    return {
        "linear": LinearConfig,
        "cosine": CosineConfig,
        "vp": VpConfig,
        "ddpm": DdpmConfig,
        "meanflow": MeanFlowConfig,
    }
