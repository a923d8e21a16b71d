"""Euclidean distances between rows, a block at a time.

Shapes: N rows of x, M rows of y, R rows of a block, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 22
"""Distances held at once: 32 MiB in float64."""


def iterate_distances(x_ND: Tensor, y_MD: Tensor, block: int = _BLOCK) -> Iterator[tuple[int, Tensor]]:
    """First row number and (R, M) distances, over the rows of x in order.

    Both are centred first, so a large common offset costs no digits.
    """
    centre_D = y_MD.mean(0)
    x_ND, y_MD = x_ND - centre_D, y_MD - centre_D
    rows = max(1, block // len(y_MD))
    for start in range(0, len(x_ND), rows):
        yield start, torch.cdist(x_ND[start : start + rows], y_MD)
