"""Samplers as one writes them first: two network calls a drift, and both branches always.

On the linear path x_t = (1 - t) x + t ε: score s = -(x + (1 - t) v) / t.
Shapes: x (B, C, H, W), t (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x, t) -> v: one network call."""


def sample_sde_heun(
    velocity: Velocity, x: Tensor, steps: int, last: float, noise: Callable[[int], Tensor]
) -> Tensor:
    """SiT's SDE Heun with D = t and a last step "mean": velocity and score each call the network."""

    def drift(x: Tensor, t: Tensor) -> Tensor:
        score = -(x + (1 - t) * velocity(x, t.expand(len(x)))) / t
        return velocity(x, t.expand(len(x))) - t * score

    times = torch.linspace(1.0, last, steps, dtype=torch.float64)
    for i, (t, after) in enumerate(pairwise(times)):
        x = x + (2 * (t - after) * t).sqrt().to(x) * noise(i)
        k1 = drift(x, t)
        k2 = drift(x + (after - t) * k1, after)
        x = (x + 0.5 * (after - t) * (k1 + k2)).to(x.dtype)
    return (x - last * drift(x, times[-1])).to(x.dtype)


def sample_guided_euler(
    velocity: Velocity, null: Velocity, x: Tensor, steps: int, scale: float, low: float, high: float
) -> Tensor:
    """Euler's method; both branches are computed at every step, one is used outside [low, high]."""
    times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    for t, after in pairwise(times):
        t_B = t.expand(len(x))
        with_condition, without = velocity(x, t_B), null(x, t_B)
        inside = bool(low <= t <= high)
        guided = without + scale * (with_condition - without) if inside else with_condition
        x = (x + (after - t) * guided).to(x.dtype)
    return x
