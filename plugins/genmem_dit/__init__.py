"""The DiT family of backbones, and the layouts of its published weights.

`sit`, `dit` and `lightningdit`: transformers on patches, conditioned by adaLN.
"""

from __future__ import annotations

from genmem import hookimpl
from genmem.contracts import BackboneConfig, FormatConfig
from genmem_dit.configs import (
    LIGHTNING_SIZES,
    SIZES,
    DitConfig,
    LightningDitConfig,
    SitConfig,
    Size,
    TransformerConfig,
)
from genmem_dit.layouts import DitLayout, GmemLayout, LightningDitLayout, RepaLayout, SitLayout

__all__ = [
    "LIGHTNING_SIZES",
    "SIZES",
    "DitConfig",
    "DitLayout",
    "GmemLayout",
    "LightningDitConfig",
    "LightningDitLayout",
    "RepaLayout",
    "SitConfig",
    "SitLayout",
    "Size",
    "TransformerConfig",
]


@hookimpl
def genmem_backbones() -> dict[str, type[BackboneConfig]]:
    """The backbones of this plugin."""
    return {"sit": SitConfig, "dit": DitConfig, "lightningdit": LightningDitConfig}


@hookimpl
def genmem_formats() -> dict[str, type[FormatConfig]]:
    """The layouts of the family's published weights."""
    return {
        "sit": SitLayout,
        "dit": DitLayout,
        "repa": RepaLayout,
        "lightningdit": LightningDitLayout,
        "gmem": GmemLayout,
    }
