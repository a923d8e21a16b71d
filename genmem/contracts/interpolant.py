"""The Interpolant seat: how data becomes noise, and what the network regresses.

x_t = α(t)·x + σ(t)·ε with α(0) = σ(1) = 1 for the usual ones (GMem paper, eq. 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from genmem.contracts.backbone import Conditioning, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from genmem.draws import Draws

    Predict = Callable[[Tensor, Tensor, Conditioning], Prediction]
    """(x_t, t, cond) -> Prediction: the only way of an interpolant to a network."""


class Times(NamedTuple):
    """The times of one batch."""

    t: Tensor
    """(B,), or (B, L) for token times; 0 data … 1 noise."""

    span_B: Tensor | None = None
    """t - r, where the interpolant has two times."""


class TimeRange(NamedTuple):
    """The times at which a sampler may ask the network."""

    low: float = 0.0
    """The nearest to data. Above 0 where what the network gives says nothing at the data itself."""

    high: float = 1.0
    """The nearest to noise."""

    steps: int | None = None
    """Where only whole steps are known: their number, at even distances from low to high."""


class Regression(NamedTuple):
    """One evaluation of the denoising loss."""

    x_t: Tensor
    target: Tensor
    """What the output should be: of the samples' channels, without a learned variance."""

    loss_B: Tensor
    prediction: Prediction


class Coefficients(NamedTuple):
    """α, σ and their derivatives in t, each shaped to broadcast against a sample."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


class Fields(Protocol):
    """Everything one network output says about (x_t, t). Computed when asked for."""

    @property
    def velocity(self) -> Tensor:
        """dx/dt of the probability-flow ODE; the average one where there is a span."""

    @property
    def score(self) -> Tensor:
        """∇ log p_t(x_t)."""

    @property
    def noise(self) -> Tensor:
        """E[ε | x_t]."""

    @property
    def data(self) -> Tensor:
        """E[x | x_t]."""

    @property
    def variance(self) -> Tensor | None:
        """Where the network learns the variance of a reverse step: its place between the bounds, in
        logarithms, 0 the posterior's β̃ and 1 the step's own β. (The bounds depend on the step.)"""


class Interpolant(Protocol):
    """A noise process with the regression that learns it. Stateless."""

    def times(self, draws: Draws) -> Times:
        """Draw the times of one batch, one row for each of `draws.index_B`."""

    def limits(self) -> TimeRange:
        """The times at which a sampler may ask."""

    def mix(self, x: Tensor, noise: Tensor, t: Tensor, /) -> Tensor:
        """x_t, for x and noise (B, C, H, W) and t (B,) or (B, L)."""

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """α(t), σ(t), α'(t), σ'(t).

        Raises:
            NotImplementedError: Where the process is no affine path.
        """

    def fields(self, output: Tensor, x_t: Tensor, t: Tensor, /) -> Fields:
        """Read one network output."""

    def regress(
        self, predict: Predict, x: Tensor, noise: Tensor, times: Times, cond: Conditioning, /
    ) -> Regression:
        """The denoising loss per sample; may call `predict` as often as it needs."""


@attrs.frozen(kw_only=True)
class InterpolantConfig(ABC):
    """Settings of an interpolant."""

    @property
    def consumes(self) -> frozenset[str]:
        """What the backbone must consume for it: subset of {"span", "token-times"}."""
        return frozenset()

    @property
    def predicts_velocity(self) -> bool:
        """Whether the network's output is dx/dt: its sign turns with the direction of time, that of
        noise, score and data does not."""
        return True

    def output_channels(self, channels: int) -> int:
        """Channels the network must give for samples of `channels` channels."""
        return channels

    @abstractmethod
    def build(self) -> Interpolant:
        """The process."""
