"""What every encoder here asks of its pictures.

Shapes: B pictures, H W C picture.
"""

from __future__ import annotations

import numpy as np

_SMALLEST = 8


def check_pictures(pictures_BHWC: np.ndarray) -> None:
    """Refuse what is no batch of pictures.

    Raises:
        ValueError: Another dtype than uint8, another rank, other channels than 1 or 3, or sides below 8.
    """
    shape = pictures_BHWC.shape
    if pictures_BHWC.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(f"expected uint8 pictures (B, H, W, 1 or 3), got {pictures_BHWC.dtype} {shape}")
    if min(shape[1:3]) < _SMALLEST:
        raise ValueError(
            f"expected pictures of {_SMALLEST} x {_SMALLEST} or more, got {shape[1]} x {shape[2]}"
        )


def flatten_pictures(pictures_BHWC: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """(B, H·W·C) in [-1, 1]."""
    check_pictures(pictures_BHWC)
    flat: np.ndarray = pictures_BHWC.reshape(len(pictures_BHWC), -1).astype(dtype)
    flat /= 127.5
    flat -= 1
    return flat
