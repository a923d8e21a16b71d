"""What enters the transformer: patches, positions, times, labels, memories.

Shapes: B batch, C H W sample, L tokens, D width, K memories a sample, E memory width,
F frequencies, J times a sample (1, or L for token times).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from genmem_dit.counting import FREQUENCY_WIDTH

_LONGEST_PERIOD = 10000.0


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def embed_times(t: Tensor, width: int = FREQUENCY_WIDTH) -> Tensor:
    """(*t, width): cosines, then sines, of t · 10000^(-i / half); float32, float64 for float64 times."""
    half = width // 2
    dtype = torch.promote_types(t.dtype, torch.float32)
    exponent_F = torch.arange(half, dtype=dtype, device=t.device) / half
    phase = t.to(dtype)[..., None] * torch.exp(-math.log(_LONGEST_PERIOD) * exponent_F)
    return torch.cat([phase.cos(), phase.sin()], -1)


def embed_axis(position_L: Tensor, width: int) -> Tensor:
    """(L, width): sines, then cosines, of one coordinate, in float64."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float64, device=position_L.device) / half
    phase = position_L.double()[:, None] * _LONGEST_PERIOD**-exponent
    return torch.cat([phase.sin(), phase.cos()], 1)


def embed_positions(rows: int, columns: int, width: int) -> Tensor:
    """(rows · columns, width) float64 on the CPU: the fixed table, row-major.

    The first half of the channels holds the column, the second the row.
    """
    with torch.device("cpu"):
        column_L = torch.arange(columns).repeat(rows)
        row_L = torch.arange(rows).repeat_interleave(columns)
        return torch.cat([embed_axis(column_L, width // 2), embed_axis(row_L, width // 2)], 1)


class PatchEmbedder(nn.Module):
    """Non-overlapping patches to tokens, row-major."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, D)."""
        tokens_BLD: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens_BLD


class TimestepEmbedder(nn.Module):
    """Times to width D, in full precision under any autocast: bf16 would round t to 1/256."""

    def __init__(self, width: int, scale: float, whole: bool) -> None:
        super().__init__()
        self.scale = scale
        self.whole = whole
        self.mlp = nn.Sequential(nn.Linear(FREQUENCY_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t_BJ: Tensor) -> Tensor:
        """(B, J) to (B, J, D)."""
        with full_precision(t_BJ.device):
            step_BJ = t_BJ.to(torch.promote_types(t_BJ.dtype, torch.float32)) * self.scale
            if self.whole:  # the rounding is a constant to derivatives
                step_BJ = step_BJ + (step_BJ.round() - step_BJ).detach()
            # Parameters are below fp32 only where somebody has converted the whole network.
            features_BJF = embed_times(step_BJ).to(next(self.mlp.parameters()).dtype)
            embedded_BJD: Tensor = self.mlp(features_BJF)
        return embedded_BJD


class LabelEmbedder(nn.Module):
    """One row a class, and a last one that stands for no label."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding_table = nn.Embedding(num_classes + 1, width)

    def forward(self, label_B: Tensor, drop_B: Tensor | None) -> Tensor:
        """(B,) to (B, D); dropped rows take the last row of the table."""
        if drop_B is not None:
            label_B = torch.where(drop_B, self.num_classes, label_B)
        row_BD: Tensor = self.embedding_table(label_B)
        return row_BD


class MemoryProjection(nn.Module):
    """Memories to width D: each projected, then the mean over the K of a sample.

    A dropped row is projected as the zero vector, GMem's null snippet, so the network learns
    its own answer to "no memory" in the biases.
    """

    def __init__(self, memory_width: int, width: int, form: Literal["linear", "mlp"]) -> None:
        super().__init__()
        self.form = form
        first = nn.Linear(memory_width, width)
        if form == "linear":
            self.linear = first
        else:
            # GMem's paper gives three layers and SiLU, no hidden width: D is ours.
            self.mlp = nn.Sequential(
                first, nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )

    def forward(self, memory_BKE: Tensor, drop_B: Tensor | None) -> Tensor:
        """(B, K, E) to (B, D)."""
        if drop_B is not None:
            memory_BKE = torch.where(drop_B[:, None, None], torch.zeros_like(memory_BKE), memory_BKE)
        projected_BKD: Tensor = self.linear(memory_BKE) if self.form == "linear" else self.mlp(memory_BKE)
        return projected_BKD.mean(1)
