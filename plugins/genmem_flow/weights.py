"""Weights of the denoising loss: what an error of the noise counts, and what of any other output.

On an affine path an error of the output is an error of the noise times a factor of t alone,
ε - ε̂ = -(σ/V)(v - v̂) = -σ(s - ŝ) = -(α/σ)(x - x̂), with V = σ σ' - σ² α'/α, half the squared
diffusion of the forward SDE. So a weight is defined once, for the noise. Time: t = 0 is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from genmem.contracts import Coefficients
from genmem.paths import Target

Weight = Literal["none", "velocity", "likelihood", "min-snr"]


def count_as_velocity(path: Coefficients, gamma: float) -> Tensor:
    """(V/σ)²: the loss of the velocity."""
    return (_determinant(path) / path.alpha).square()


def count_as_likelihood(path: Coefficients, gamma: float) -> Tensor:
    """V/σ²: the variational bound (Song et al. 2021)."""
    return _determinant(path) / (path.alpha * path.sigma)


def clip_ratio(path: Coefficients, gamma: float) -> Tensor:
    """min(SNR, γ) / SNR, SNR = α²/σ² (Hang et al. 2023)."""
    return (gamma * (path.sigma / path.alpha).square()).clamp(max=1.0)


NOISE_WEIGHTS: Mapping[Weight, Callable[[Coefficients, float], Tensor]] = {
    "velocity": count_as_velocity,
    "likelihood": count_as_likelihood,
    "min-snr": clip_ratio,
}


def weigh(kind: Weight, target: Target, path: Coefficients, gamma: float) -> Tensor | None:
    """Factor on squared errors of the output; None for 1.

    "none" is 1 for velocity, noise and x0, and σ² for the score: the GMem paper's E‖σ s_θ + ε‖².
    """
    scale = path.sigma.square() if target == "score" else None
    if kind == "none" or (kind == "velocity" and target == "velocity"):
        return scale
    weight = NOISE_WEIGHTS[kind](path, gamma)
    if target == "velocity":
        return weight * (path.alpha / _determinant(path)).square()
    if target == "x0":
        return weight * (path.alpha / path.sigma).square()
    return weight if scale is None else weight * scale


def _determinant(path: Coefficients) -> Tensor:
    """α σ' - α' σ = V α / σ."""
    return path.alpha * path.d_sigma - path.d_alpha * path.sigma
