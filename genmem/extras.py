"""Libraries of the optional extras, imported where they are used, with a message where they are missing.

A torchvision built for another torch (a CUDA wheel beside a CPU torch) fails while it declares
fake kernels for operators its library never registered, and every library that looks for it fails
with it. Declaring those operators lets it import; calling one still raises its own error.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from types import ModuleType

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class MissingExtra(ValueError):
    """A library of an extra is not installed; the message has the command that installs it."""


def import_extra(name: str, extra: str) -> ModuleType:
    """A library that an extra of the installation brings.

    Args:
        name: The module.
        extra: Which of genmem's extras it comes with.

    Raises:
        MissingExtra: It is not installed.
    """
    library = name.partition(".")[0]
    if importlib.util.find_spec(library) is None:
        raise MissingExtra(
            f"{library} is not installed; it comes with the extra {extra!r}: pip install 'genmem[{extra}]', "
            f"or from a clone: pip install -c docs/constraints.txt -e '.[{extra}]'"
        )
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return importlib.import_module(name)


@cache
def import_torchvision() -> torch.library.Library | None:
    """Import torchvision; what had to be declared for it lives as long as this cache.

    Raises:
        ImportError: It is not installed.
    """
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
