"""Laws of the training times. Shapes: B batch. Time: t = 0 is data, t = 1 is noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from genmem.draws import Draws

if TYPE_CHECKING:
    from genmem_flow import TimedConfig

TimeLaw = Callable[[Draws], Tensor]
"""Draws to times (B,), one for each row."""


def draw_uniform(draws: Draws) -> Tensor:
    """t ~ U(0, 1)."""
    return draws.uniform("time")


def logit_normal(mean: float, std: float) -> TimeLaw:
    """t = sigmoid(N(mean, std²)) (Esser et al. 2024, eq. 19)."""

    def draw(draws: Draws) -> Tensor:
        return (mean + std * draws.normal("time")).sigmoid()

    return draw


def law_of(config: TimedConfig) -> TimeLaw:
    """The law a config names."""
    if config.time == "uniform":
        return draw_uniform
    mean = 0.0 if config.time_mean is None else config.time_mean
    return logit_normal(mean, 1.0 if config.time_std is None else config.time_std)
