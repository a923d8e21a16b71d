"""Dispersive losses: repulsion between the hidden states of a batch, and their contrastive twins."""

from __future__ import annotations

from genmem import hookimpl
from genmem.contracts import ObjectiveConfig
from genmem_dispersive.config import DispersiveConfig

__all__ = ["DispersiveConfig"]


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"dispersive": DispersiveConfig}
