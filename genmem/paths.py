"""Affine paths x_t = α(t)·x + σ(t)·ε: everything an ordinary interpolant shares.

A subclass gives `coefficients`, and `predicts` where the network gives no velocity; mixing, targets,
conversions and the regression follow.
Time: t = 0 is data, t = 1 is noise. Shapes: B batch, C H W sample, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from genmem.contracts import Coefficients, Conditioning, Regression, TimeRange, Times

if TYPE_CHECKING:
    from genmem.contracts.interpolant import Predict
    from genmem.draws import Draws

Target = Literal["velocity", "noise", "score", "x0"]
"""What a network may be trained to give."""


def spread(t: Tensor, like: Tensor) -> Tensor:
    """Times (B,) or token times (B, L) shaped to broadcast against samples (B, C, H, W).

    Token times are taken row-major over a grid of square patches.

    Raises:
        ValueError: No square patch cuts the sample into L tokens.
    """
    if t.ndim == 1:
        return t.view(-1, *[1] * (like.ndim - 1))
    height, width = like.shape[-2:]
    patch = max(1, round((height * width / t.shape[1]) ** 0.5))
    rows, columns = height // patch, width // patch
    if (rows * patch, columns * patch, rows * columns) != (height, width, t.shape[1]):
        raise ValueError(f"{t.shape[1]} token times fit no grid of square patches on {height} x {width}")
    grid = t.view(len(t), 1, rows, columns)
    return grid.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


class AffineFields:
    """Velocity, score, noise and data from a velocity, on an affine path."""

    variance: Tensor | None = None

    def __init__(self, output: Tensor, x_t: Tensor, path: Coefficients) -> None:
        """Fields of a network output at x_t, with the path's coefficients there."""
        self._output = output
        self._x_t = x_t
        self._path = path

    @cached_property
    def velocity(self) -> Tensor:
        """The output itself."""
        return self._output

    @cached_property
    def noise(self) -> Tensor:
        """ε = (α v - α' x_t) / (α σ' - α' σ)."""
        a, s, da, ds = self._path
        return (a * self._output - da * self._x_t) / (a * ds - da * s)

    @cached_property
    def data(self) -> Tensor:
        """x = (σ' x_t - σ v) / (α σ' - α' σ)."""
        a, s, da, ds = self._path
        return (ds * self._x_t - s * self._output) / (a * ds - da * s)

    @cached_property
    def score(self) -> Tensor:
        """s = -ε / σ (GMem paper, below eq. 5); infinite at t = 0."""
        return -self.noise / self._path.sigma


class NoiseFields(AffineFields):
    """The same from a noise: data is infinite where α = 0."""

    @cached_property
    def velocity(self) -> Tensor:
        """v = α' x + σ' ε."""
        return self._path.d_alpha * self.data + self._path.d_sigma * self.noise

    @cached_property
    def noise(self) -> Tensor:
        """The output itself."""
        return self._output

    @cached_property
    def data(self) -> Tensor:
        """x = (x_t - σ ε) / α."""
        return (self._x_t - self._path.sigma * self.noise) / self._path.alpha


class ScoreFields(NoiseFields):
    """The same from a score."""

    @cached_property
    def noise(self) -> Tensor:
        """ε = -σ s."""
        return -self._path.sigma * self._output

    @cached_property
    def score(self) -> Tensor:
        """The output itself."""
        return self._output


class DataFields(NoiseFields):
    """The same from the data: noise is infinite where σ = 0."""

    @cached_property
    def noise(self) -> Tensor:
        """ε = (x_t - α x) / σ."""
        return (self._x_t - self._path.alpha * self._output) / self._path.sigma

    @cached_property
    def data(self) -> Tensor:
        """The output itself."""
        return self._output


READERS: Mapping[Target, type[AffineFields]] = {
    "velocity": AffineFields,
    "noise": NoiseFields,
    "score": ScoreFields,
    "x0": DataFields,
}


class AffinePath(ABC):
    """An interpolant on an affine path."""

    predicts: Target = "velocity"
    """What the network gives."""

    @abstractmethod
    def coefficients(self, t: Tensor, /) -> Coefficients:
        """α(t), σ(t), α'(t), σ'(t), each of t's shape."""

    def times(self, draws: Draws) -> Times:
        """t ~ U(0, 1)."""
        return Times(draws.uniform("time"))

    def limits(self) -> TimeRange:
        """All of [0, 1]."""
        return TimeRange()

    def mix(self, x: Tensor, noise: Tensor, t: Tensor, /) -> Tensor:
        """x_t = α x + σ ε (GMem paper, eq. 1)."""
        path = self.coefficients(spread(t, x))
        return path.alpha * x + path.sigma * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor, /) -> Tensor:
        """What the output should be: dx_t/dt = α' x + σ' ε, or ε, or -ε / σ, or x."""
        if self.predicts == "x0":
            return x
        if self.predicts == "noise":
            return noise
        path = self.coefficients(spread(t, x))
        if self.predicts == "score":
            return -noise / path.sigma
        return path.d_alpha * x + path.d_sigma * noise

    def weight(self, t: Tensor, /) -> Tensor | None:
        """Factor on squared errors of the output at t, shaped as t is; None: 1."""
        return None

    def fields(self, output: Tensor, x_t: Tensor, t: Tensor, /) -> AffineFields:
        """Read an output as what the network predicts."""
        return READERS[self.predicts](output, x_t, self.coefficients(spread(t, x_t)))

    def regress(
        self, predict: Predict, x: Tensor, noise: Tensor, times: Times, cond: Conditioning, /
    ) -> Regression:
        """E w(t)‖f_θ(x_t, t) - target‖², the mean over a sample's elements."""
        x_t = self.mix(x, noise, times.t)
        target = self.target(x, noise, times.t)
        prediction = predict(x_t, times.t, cond)
        error = (prediction.output - target).square()
        weight = self.weight(spread(times.t, x))
        loss_B = (error if weight is None else weight * error).flatten(1).mean(1)
        return Regression(x_t, target, loss_B, prediction)
