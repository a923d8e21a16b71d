"""Grids of times from noise (t = 1) to data, in Python floats: double precision on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def shift_time(u: float, shift: float) -> float:
    """u / (s + (1 - s) u): in τ = 1 - t this is LightningDiT's s τ / (1 + (s - 1) τ)."""
    return u / (shift + (1.0 - shift) * u)


def space_times(steps: int, shift: float = 1.0, end: float = 0.0) -> tuple[float, ...]:
    """steps + 1 times from exactly 1 to exactly `end`.

    The shift warps the unit interval; what comes out is then laid over [end, 1].
    """
    warped = (shift_time(1.0 - i / steps, shift) for i in range(1, steps))
    return (1.0, *(end + (1.0 - end) * u for u in warped), end)


def fill_time(t: float, x: Tensor) -> Tensor:
    """The same time for every row of x: (B,), in x's dtype."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)
