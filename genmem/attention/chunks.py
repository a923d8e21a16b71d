"""What a memory hands over: consecutive rows and what is known of them.

Shapes: N rows of one chunk, E width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Chunk(NamedTuple):
    """Consecutive rows of a memory."""

    keys_NE: Tensor
    """Rows in fp32, bf16 or fp64; those that are not valid may hold anything, NaN included."""

    ids_N: Tensor | None = None
    """int64 sample numbers; rows without them are hidden from nobody."""

    valid_N: Tensor | None = None
    """bool; every row counts where it is absent."""

    label_N: Tensor | None = None
    """int64 classes, -1 for none."""

    t_N: Tensor | None = None
    """Times, in any floating type."""


def rows_at_once(device: torch.device) -> int:
    """A good number of rows in a chunk: calls stay few, and a copy of a chunk stays small."""
    return 16_384 if device.type == "cpu" else 65_536
