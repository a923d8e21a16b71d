"""From a pooled hidden state to a row of the memory.

Shapes: B samples, D hidden width, E memory width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from genmem.draws import Draws


class RandomProjection(nn.Module):
    """A fixed Gaussian projection: keeps angles up to √(2/E), has no parameters, never drifts.

    It follows from the seed, so it is in no checkpoint.
    """

    matrix_DE: Tensor

    def __init__(self, width: int, out: int, seed: int) -> None:
        """From D = `width` to E = `out`."""
        super().__init__()
        matrix_DE = Draws(seed, torch.arange(width)).normal("repulsor/projection", (out,)) / math.sqrt(out)
        self.register_buffer("matrix_DE", matrix_DE, persistent=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """(B, E)."""
        return pooled_BD @ self.matrix_DE


def make_head(kind: Literal["mlp", "linear", "jl"], width: int, out: int, seed: int) -> nn.Module:
    """The head from D = `width` to E = `out`."""
    if kind == "jl":
        return RandomProjection(width, out, seed)
    if kind == "linear":
        return nn.Linear(width, out)
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, out))
