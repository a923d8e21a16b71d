"""MeanFlow (Geng et al. 2025, arXiv 2505.13447): the average velocity of the linear path.

u(z, r, t) = 1/(t - r) ∫_r^t v dτ. Shapes: B batch, C H W sample. Time: t = 0 is data, t = 1 is noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from genmem.contracts import Coefficients, Conditioning, Prediction, Regression, Times
from genmem.draws import Draws
from genmem.paths import AffinePath, spread
from genmem_flow.times import TimeLaw

if TYPE_CHECKING:
    from genmem.contracts.interpolant import Predict
    from genmem_flow.configs import MeanFlowConfig


class MeanFlow(AffinePath):
    """The linear path with two times; a network that is told t - r gives the average velocity."""

    def __init__(self, law: TimeLaw, config: MeanFlowConfig) -> None:
        """Times by `law`, everything else by `config`."""
        self._law = law
        self._config = config

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """1 - t, t, -1, 1."""
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)

    def times(self, draws: Draws) -> Times:
        """Two draws of the law, the later as t; then r = t but for the chosen share of samples."""
        first, second = (self._law(draws, name) for name in ("time", "time/second"))
        t = torch.maximum(first, second)
        apart = draws.uniform("two-times") < self._config.two_times
        return Times(t, torch.where(apart, (first - second).abs(), 0.0))

    def regress(
        self, predict: Predict, x: Tensor, noise: Tensor, times: Times, cond: Conditioning, /
    ) -> Regression:
        """‖u_θ - sg(v - (t - r) du_θ/dt)‖² / sg(‖·‖² + c)^p, summed over a sample.

        The derivative runs along (v, 0, 1) in (z, r, t), which is (v, 1, 1) in (z, t, t - r). Taps
        are those of the same forward, without its tangents. Products are fp32 under any autocast.
        """
        span_B = torch.zeros_like(times.t) if times.span_B is None else times.span_B
        with torch.autocast(x.device.type, enabled=False):
            z = self.mix(x, noise, times.t)
            v = self._guide(predict, self.target(x, noise, times.t), z, times.t, cond)
            output, slope, prediction = _differentiate(predict, z, times.t, span_B, v, cond)
            target = (v - spread(span_B.clamp(0.0, 1.0), x) * slope).detach()
            error_B = (output - target).square().flatten(1).sum(1)
        scale_B = (error_B.detach() + self._config.floor).pow(self._config.power)
        return Regression(z, target, error_B / scale_B, prediction)

    def _guide(self, predict: Predict, v: Tensor, z: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        """v_g = ω v + (1 - ω - κ) u_θ(z, t, t, ∅) + κ u_θ(z, t, t, y) inside the interval.

        Samples whose condition is dropped keep v.
        """
        omega, kappa, (low, high) = self._config.omega, self._config.kappa, self._config.interval
        if omega == 1.0 and kappa == 0.0:
            return v
        guided = omega * v
        still = cond._replace(span_B=torch.zeros_like(t_B))
        with torch.no_grad():
            if omega + kappa != 1.0:
                nobody = still._replace(drop_B=torch.ones_like(t_B, dtype=torch.bool))
                guided = guided + (1 - omega - kappa) * predict(z, t_B, nobody).output
            if kappa:
                guided = guided + kappa * predict(z, t_B, still).output
        inside_B = (t_B >= low) & (t_B <= high)
        if cond.drop_B is not None:
            inside_B = inside_B & ~cond.drop_B
        return torch.where(spread(inside_B, z), guided, v)


def _differentiate(
    predict: Predict, z: Tensor, t_B: Tensor, span_B: Tensor, v: Tensor, cond: Conditioning
) -> tuple[Tensor, Tensor, Prediction]:
    """u_θ, its derivative along (v, 1, 1) in (z, t, t - r), and the prediction of the same forward."""

    def average(z: Tensor, t_B: Tensor, span_B: Tensor) -> tuple[Tensor, Prediction]:
        prediction = predict(z, t_B, cond._replace(span_B=span_B))
        return prediction.output, prediction

    ones = torch.ones_like(t_B)
    found = torch.func.jvp(average, (z, t_B, span_B), (v, ones, ones), has_aux=True)
    return cast(tuple[Tensor, Tensor, Prediction], found)
