"""Classifier-free guidance (Ho and Salimans 2022), inside an interval (Kynkäänniemi et al. 2024).

Shapes: B batch, G rows that are guided, C H W sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from genmem.contracts import Conditioning, Output


class ClassifierFree:
    """u + scale · (c - u), u without condition and c with it."""

    def __init__(self, scale: float, channels: int | Literal["all"], low: float, high: float) -> None:
        """Guide the first `channels` channels at times from `low` to `high`."""
        self.scale = scale
        self.channels = channels
        self.low, self.high = low, high

    def __call__(self, output: Output, x: Tensor, t_B: Tensor, cond: Conditioning, /) -> Tensor:
        """The guided output. Rows outside the interval are asked with their condition alone.

        Raises:
            ValueError: More channels than a sample has.
        """
        count = x.shape[1] if self.channels == "all" else self.channels
        if count > x.shape[1]:
            raise ValueError(f"channels = {count}, but a sample has {x.shape[1]}")
        rows_G = ((t_B >= self.low) & (t_B <= self.high)).nonzero()[:, 0]
        if self.scale == 1.0 or len(rows_G) == 0:
            return output(x, t_B, cond)
        with_B, without_G = _ask(output, x, t_B, cond, rows_G)
        guided = with_B.clone()
        with_G = with_B[rows_G, :count]
        guided[rows_G, :count] = without_G[:, :count] + self.scale * (with_G - without_G[:, :count])
        return guided


def _ask(output: Output, x: Tensor, t_B: Tensor, cond: Conditioning, rows_G: Tensor) -> tuple[Tensor, Tensor]:
    """Every row with its condition, and these without, in one call of the network."""
    count = len(x)
    everybody = torch.cat([torch.arange(count, device=x.device), rows_G])
    drop = torch.zeros(count, dtype=torch.bool, device=x.device) if cond.drop_B is None else cond.drop_B
    twice = cond.take(everybody)._replace(drop_B=torch.cat([drop, torch.ones_like(rows_G, dtype=torch.bool)]))
    both = output(x[everybody], t_B[everybody], twice, everybody)
    return both[:count], both[count:]
