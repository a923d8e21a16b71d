"""The continuous paths. Shapes: B batch. Time: t = 0 is data, t = 1 is noise."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from genmem.contracts import Coefficients, TimeRange, Times
from genmem.draws import Draws
from genmem.paths import AffinePath, Target
from genmem_flow.times import TimeLaw
from genmem_flow.weights import Weight, weigh


@attrs.frozen(kw_only=True)
class Training:
    """How a path is trained and where it may be sampled."""

    law: TimeLaw
    """Of the training times, before they are laid over `train`."""

    predicts: Target
    weight: Weight
    gamma: float
    train: TimeRange
    sample: TimeRange


class TrainedPath(AffinePath):
    """A path with its own law of times, target and weight."""

    def __init__(self, training: Training) -> None:
        """A path trained so."""
        self._training = training
        self.predicts = training.predicts

    def times(self, draws: Draws) -> Times:
        """Times by the chosen law, laid over the range that is trained."""
        low, high, _ = self._training.train
        return Times(low + (high - low) * self._training.law(draws, "time"))

    def limits(self) -> TimeRange:
        """The range that may be sampled."""
        return self._training.sample

    def weight(self, t: Tensor, /) -> Tensor | None:
        """The chosen weight, for what the network predicts."""
        how = self._training
        return weigh(how.weight, how.predicts, self.coefficients(t), how.gamma)


class Linear(TrainedPath):
    """α = 1 - t, σ = t (GMem paper, section 2; SiT paper, table 1)."""

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """1 - t, t, -1, 1."""
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)


class Cosine(TrainedPath):
    """α = cos(πt/2), σ = sin(πt/2): SiT's GVP, the GMem paper's variance preserving path."""

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """cos, sin, -π/2 sin, π/2 cos of πt/2."""
        quarter = math.pi / 2
        # sin(π/2 (1 - t)) rather than cos(πt/2), which is not 0 at t = 1 in floating point.
        cos, sin = (quarter * (1 - t)).sin(), (quarter * t).sin()
        return Coefficients(cos, sin, -quarter * sin, quarter * cos)


class VariancePreserving(TrainedPath):
    """SiT's β schedule: dx = -β/2 x dt + √β dW, β = β_min + t (β_max - β_min)."""

    def __init__(self, training: Training, beta_min: float, beta_max: float) -> None:
        """The schedule between these two."""
        super().__init__(training)
        self.beta_min, self.beta_max = beta_min, beta_max

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """α = exp(L), L = -t²(β_max - β_min)/4 - t β_min/2; σ = √(1 - α²), whose slope is ∞ at t = 0."""
        rise = self.beta_max - self.beta_min
        log_alpha = -0.25 * rise * t.square() - 0.5 * self.beta_min * t
        slope = -0.5 * rise * t - 0.5 * self.beta_min
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        return Coefficients(alpha, sigma, slope * alpha, -slope * alpha.square() / sigma)
