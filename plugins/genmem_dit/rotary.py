"""Rotary positions in two dimensions (RoPE, as EVA-02 and LightningDiT have it).

Shapes: B batch, N heads, L tokens, A width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_LONGEST_PERIOD = 10000.0


class Rotation(NamedTuple):
    """By which angle each pair of channels is turned, at each token."""

    cos_LA: Tensor
    sin_LA: Tensor

    def turn(self, x_BNLA: Tensor) -> Tensor:
        """(a, b) -> (a cos - b sin, b cos + a sin) for channels (0, 1), (2, 3), …"""
        even, odd = x_BNLA.view(*x_BNLA.shape[:-1], -1, 2).unbind(-1)
        quarter_BNLA = torch.stack([-odd, even], -1).flatten(-2)
        return x_BNLA * self.cos_LA + quarter_BNLA * self.sin_LA


def angles(rows: int, columns: int, width: int) -> Tensor:
    """(rows · columns, width) float64 on the CPU: row angles in the first half, then column angles.

    The i-th pair of a half turns by position · 10000^(-2i / d), d = width / 2.
    """
    axis = width // 2
    with torch.device("cpu"):
        frequency = _LONGEST_PERIOD ** -(torch.arange(0, axis, 2, dtype=torch.float64) / axis)
        row_L = torch.arange(rows).repeat_interleave(columns)
        column_L = torch.arange(columns).repeat(rows)
        halves = [position.double()[:, None] * frequency for position in (row_L, column_L)]
        return torch.cat([half.repeat_interleave(2, 1) for half in halves], 1)


class RotaryPositions(nn.Module):
    """Cosines and sines of the angles: buffers, which the published weights contain."""

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.grid = grid
        tokens = grid[0] * grid[1]
        self.register_buffer("freqs_cos", torch.ones(tokens, width))
        self.register_buffer("freqs_sin", torch.zeros(tokens, width))

    @torch.no_grad()
    def fill(self) -> None:
        """Compute the buffers."""
        angle_LA = angles(*self.grid, self.freqs_cos.shape[1])
        self.freqs_cos.copy_(angle_LA.cos())
        self.freqs_sin.copy_(angle_LA.sin())

    def forward(self) -> Rotation:
        """The rotation of every token."""
        return Rotation(self.freqs_cos, self.freqs_sin)
