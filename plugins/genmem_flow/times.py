"""Laws of the training times. Shapes: B batch. Time: t = 0 is data, t = 1 is noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from genmem.draws import Draws

if TYPE_CHECKING:
    from genmem_flow import TimedConfig

TimeLaw = Callable[[Draws, str], Tensor]
"""(draws, purpose) to times (B,) in [0, 1], one for each row."""


def draw_uniform(draws: Draws, purpose: str) -> Tensor:
    """t ~ U(0, 1)."""
    return draws.uniform(purpose)


def logit_normal(mean: float, std: float) -> TimeLaw:
    """t = sigmoid(N(mean, std²)) (Esser et al. 2024, eq. 19)."""

    def draw(draws: Draws, purpose: str) -> Tensor:
        return (mean + std * draws.normal(purpose)).sigmoid()

    return draw


def shifted(shift: float) -> TimeLaw:
    """t = u / (s + (1 - s) u), u ~ U(0, 1): Esser et al. 2024, eq. 23, at α = 1 / s."""

    def draw(draws: Draws, purpose: str) -> Tensor:
        u = draws.uniform(purpose)
        return u / (shift + (1.0 - shift) * u)

    return draw


def law_of(config: TimedConfig) -> TimeLaw:
    """The law a config names."""
    if config.time == "uniform":
        return draw_uniform
    if config.time == "shifted":
        assert config.time_shift is not None
        return shifted(config.time_shift)
    mean = 0.0 if config.time_mean is None else config.time_mean
    return logit_normal(mean, 1.0 if config.time_std is None else config.time_std)
