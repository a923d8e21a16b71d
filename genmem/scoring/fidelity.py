"""The one entry to torch-fidelity, which imports a torchvision that may not import."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

from genmem.extras import import_torchvision


@cache
def fidelity(part: str = "") -> ModuleType:
    """The module `torch_fidelity`, or a part of it: "metric_kid" say.

    Raises:
        ImportError: It, or torchvision, is not installed.
    """
    import_torchvision()
    return importlib.import_module(f"torch_fidelity.{part}" if part else "torch_fidelity")
