"""Affine paths x_t = α(t)·x + σ(t)·ε: everything an ordinary interpolant shares.

A subclass gives `coefficients`; mixing, targets, conversions and the regression follow.
Time: t = 0 is data, t = 1 is noise. Shapes: B batch, C H W sample, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from genmem.contracts import Coefficients, Conditioning, Regression, Times

if TYPE_CHECKING:
    from genmem.contracts.interpolant import Predict
    from genmem.draws import Draws


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

    def __init__(self, velocity: Tensor, x_t: Tensor, path: Coefficients) -> None:
        """Fields of a velocity output at x_t, with the path's coefficients there."""
        self.velocity = velocity
        self._x_t = x_t
        self._path = path

    @property
    def _determinant(self) -> Tensor:
        a, s, da, ds = self._path
        return a * ds - da * s

    @property
    def noise(self) -> Tensor:
        """ε = (α v - α' x_t) / (α σ' - α' σ)."""
        a, _, da, _ = self._path
        return (a * self.velocity - da * self._x_t) / self._determinant

    @property
    def data(self) -> Tensor:
        """x = (σ' x_t - σ v) / (α σ' - α' σ)."""
        _, s, _, ds = self._path
        return (ds * self._x_t - s * self.velocity) / self._determinant

    @property
    def score(self) -> Tensor:
        """s = -ε / σ (GMem paper, below eq. 5); infinite at t = 0."""
        return -self.noise / self._path.sigma


class AffinePath(ABC):
    """An interpolant on an affine path whose network predicts the velocity."""

    @abstractmethod
    def coefficients(self, t: Tensor, /) -> Coefficients:
        """α(t), σ(t), α'(t), σ'(t), each of t's shape."""

    def times(self, draws: Draws) -> Times:
        """t ~ U(0, 1)."""
        return Times(draws.uniform("time"))

    def mix(self, x: Tensor, noise: Tensor, t: Tensor, /) -> Tensor:
        """x_t = α x + σ ε (GMem paper, eq. 1)."""
        path = self.coefficients(spread(t, x))
        return path.alpha * x + path.sigma * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor, /) -> Tensor:
        """What the output should be: dx_t/dt = α' x + σ' ε."""
        path = self.coefficients(spread(t, x))
        return path.d_alpha * x + path.d_sigma * noise

    def fields(self, output: Tensor, x_t: Tensor, t: Tensor, /) -> AffineFields:
        """Read a velocity output."""
        return AffineFields(output, x_t, self.coefficients(spread(t, x_t)))

    def regress(
        self, predict: Predict, x: Tensor, noise: Tensor, times: Times, cond: Conditioning, /
    ) -> Regression:
        """E‖v_θ(x_t, t) - α' x - σ' ε‖², the mean over a sample's elements."""
        x_t = self.mix(x, noise, times.t)
        target = self.target(x, noise, times.t)
        prediction = predict(x_t, times.t, cond)
        loss_B = (prediction.output - target).square().flatten(1).mean(1)
        return Regression(x_t, target, loss_B, prediction)
