"""What every score begins with: an (N, D) matrix in float64 that can be trusted.

Shapes: N rows (one picture each), D width of the feature space.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Features: TypeAlias = "np.ndarray | Tensor"
"""(N, D), any floating type; a tensor is worked on where it lies."""


def read_features(name: str, features: Features, *, width: int | None = None, least: int = 1) -> Tensor:
    """`features` as an (N, D) float64 tensor, apart from its source.

    Args:
        name: What the caller calls them, for the error.
        features: The features.
        width: The D they must have, where another array fixes it.
        least: The fewest rows that mean anything.

    Raises:
        TypeError: Not floating-point: pictures that no encoder has seen, say.
        ValueError: Not (N, D), another width, too few rows, or a value that is not finite.
    """
    if not isinstance(features, np.ndarray | Tensor):
        raise TypeError(f"{name}: features must be an array or a tensor, got {type(features).__name__}")
    tensor = torch.from_numpy(np.array(features)) if isinstance(features, np.ndarray) else features.detach()
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: features must be floating-point, got {tensor.dtype}; encode pictures first")
    if tensor.ndim != 2:
        raise ValueError(f"{name}: features must be (N, D), got shape {tuple(tensor.shape)}")
    if width is not None and tensor.shape[1] != width:
        raise ValueError(f"{name}: features of width {tensor.shape[1]} where width {width} is expected")
    if len(tensor) < least:
        raise ValueError(f"{name}: {len(tensor)} rows, needs at least {least}")
    _refuse_non_finite(name, tensor)
    # MPS has no float64.
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def _refuse_non_finite(name: str, tensor: Tensor) -> None:
    bad = (~tensor.isfinite()).any(1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"{name}: {int(bad.sum())} of {len(bad)} rows are not finite, the first is row {first}"
        )
