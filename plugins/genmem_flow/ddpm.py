"""DDPM with a learned variance (Ho et al. 2020; Nichol and Dhariwal 2021), as DiT trains it.

Step k = 0 … T - 1 is at t = k / (T - 1); t = 0 is the least noisy step, not the data itself.
Shapes: B batch, C H W sample, T steps, Q points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Coefficients, Conditioning, Regression, TimeRange, Times
from genmem.draws import Draws
from genmem.paths import AffineFields, AffinePath, spread
from genmem_flow.likelihood import bound_bits

if TYPE_CHECKING:
    from genmem.contracts.interpolant import Predict


QUADRATURE = 5
"""Points of the Gauss-Legendre rule over half a step."""


class Tables(NamedTuple):
    """The process in numbers, and a rule to integrate between two steps."""

    beta_T: Tensor
    log_alpha_bar_T: Tensor
    node_Q: Tensor
    weight_Q: Tensor


class Ddpm(AffinePath):
    """x_k = √ᾱ_k x + √(1 - ᾱ_k) ε with ᾱ_k = Π_{i ≤ k} (1 - β_i), β evenly spaced."""

    predicts = "noise"

    def __init__(self, steps: int, beta_min: float, beta_max: float, learn_variance: bool) -> None:
        """T steps between two β."""
        self.steps = steps
        self.learn_variance = learn_variance
        beta_T = torch.linspace(beta_min, beta_max, steps, dtype=torch.float64)
        self._rise = (beta_max - beta_min) / (steps - 1)
        self._first = beta_min
        nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE)
        log_alpha_bar_T = torch.log1p(-beta_T).cumsum(0)
        host = Tables(beta_T, log_alpha_bar_T, torch.from_numpy(nodes), torch.from_numpy(weights))
        self._tables = {beta_T.device: host}

    def tables(self, device: torch.device) -> Tables:
        """float64, on a device. Carried there once: the host waits for such a copy."""
        if device not in self._tables:
            (host, *_) = self._tables.values()
            self._tables[device] = Tables(*(table.to(device) for table in host))
        return self._tables[device]

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """√ᾱ, √(1 - ᾱ) and their derivatives, with ᾱ continued between the steps.

        Evenly spaced β give ᾱ_k = δ^(k+1) Γ(c + 1) / Γ(c - k), δ the rise of β a step and
        c = (1 - β_0) / δ: smooth in k and exact at every step, so an ODE solver may use it too. Its
        logarithm is that of the nearest step and the integral of its slope log δ + ψ(c - k) from there.
        """
        last = self.steps - 1
        k = t.double() * last
        near = k.round().clamp(0, last)
        tables = self.tables(t.device)
        between = near[..., None] + (k - near)[..., None] * (tables.node_Q + 1) / 2
        rest = (k - near) * (self._slope(between) * tables.weight_Q).sum(-1) / 2
        log_alpha_bar = tables.log_alpha_bar_T[near.long()] + rest
        slope = last * self._slope(k)
        alpha_bar, noise = log_alpha_bar.exp(), -torch.expm1(log_alpha_bar)
        alpha, sigma = alpha_bar.sqrt(), noise.sqrt()
        parts = (alpha, sigma, 0.5 * slope * alpha, -0.5 * slope * alpha_bar / sigma)
        return Coefficients(*(part.to(t.dtype) for part in parts))

    def _slope(self, k: Tensor) -> Tensor:
        """d log ᾱ / dk."""
        return math.log(self._rise) + torch.digamma((1.0 - self._first) / self._rise - k)

    def times(self, draws: Draws) -> Times:
        """Steps, all equally likely."""
        return Times(draws.integers("time", self.steps) / (self.steps - 1))

    def limits(self) -> TimeRange:
        """From the first step to the last."""
        return TimeRange(0.0, 1.0, self.steps)

    def fields(self, output: Tensor, x_t: Tensor, t: Tensor, /) -> AffineFields:
        """Read noise, and the variance's place between its bounds, (v + 1) / 2."""
        if not self.learn_variance:
            return super().fields(output, x_t, t)
        noise, place = output.chunk(2, 1)
        fields = super().fields(noise, x_t, t)
        fields.variance = (place + 1) / 2
        return fields

    def regress(
        self, predict: Predict, x: Tensor, noise: Tensor, times: Times, cond: Conditioning, /
    ) -> Regression:
        """L_simple + L_vlb: the mean of (ε - ε_θ)², and of the bound in bits, ε_θ detached in it."""
        if not self.learn_variance:
            return super().regress(predict, x, noise, times, cond)
        x_t = self.mix(x, noise, times.t)
        prediction = predict(x_t, times.t, cond)
        epsilon, place = prediction.output.chunk(2, 1)
        error = (epsilon - noise).square()
        step = spread((times.t * (self.steps - 1)).round().long(), x)
        bound = bound_bits(self, x, x_t, step, epsilon.detach(), (place + 1) / 2)
        return Regression(x_t, noise, (error + bound).flatten(1).mean(1), prediction)
