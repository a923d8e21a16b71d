"""The one entry to torch-fidelity, which imports a torchvision that may not import.

A torchvision built for another torch (a CUDA wheel beside a CPU torch) fails while it declares
fake kernels for operators its library never registered. Declaring those operators lets it
import; calling one still raises its own error.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def fidelity() -> ModuleType:
    """The module `torch_fidelity`.

    Raises:
        ImportError: It, or torchvision, is not installed.
    """
    _import_torchvision()
    return importlib.import_module("torch_fidelity")


@cache
def _import_torchvision() -> torch.library.Library | None:
    """Import torchvision; what had to be declared for it lives as long as this cache."""
    try:
        importlib.import_module("torchvision")
        return None
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _MISSING:
        library.define(schema)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # torchvision warns that its image reader is missing too; nothing here uses it.
        warnings.simplefilter("ignore", UserWarning)
        importlib.import_module("torchvision")
    return library
