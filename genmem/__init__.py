"""genmem: train, sample, score and profile denoising generative models from recipes."""

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from genmem.api import Run, load

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("genmem")
"""Marks a plugin's hook implementations."""

__all__ = ["Run", "hookimpl", "load"]


def __getattr__(name: str) -> Any:
    if name in ("load", "Run"):
        from genmem import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
