"""The Fréchet distance between two Gaussians, in float64.

d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½ (Dowson and Landau, 1982; Heusel et al., 2017).
Shapes: D width of the feature space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.scoring.moments import Moments, Statistics

_NEGATIVE_SHARE = 1e-6
"""Negative eigenvalues up to this share of the trace are round-off (of float32 files too)."""


def frechet(a: Moments | Statistics, b: Moments | Statistics) -> float:
    """The squared Fréchet distance, what the field calls FID or FD; symmetric in its arguments.

    tr (Σ₁ Σ₂)^½ is the sum of the singular values of R₁ᵀ R₂ where R Rᵀ = Σ, each R from a
    symmetric eigendecomposition. Singular values keep what the square root of the eigenvalues
    of Σ₁^½ Σ₂ Σ₁^½ loses: it stays exact where there are fewer rows than dimensions. No
    eigenvalue is cut; those that round-off made negative count as 0, as does a distance.

    Raises:
        ValueError: Different widths, fewer than two rows, values that are not finite, or a
            matrix that is no covariance.
    """
    if a.width != b.width:
        raise ValueError(f"features of width {a.width} and of width {b.width} have no Fréchet distance")
    covariance_a, covariance_b = a.covariance(), b.covariance()
    cross = torch.linalg.svdvals(_root(covariance_a).T @ _root(covariance_b)).sum()
    apart = (a.mean_D - b.mean_D).square().sum()
    squared: float = (apart + covariance_a.trace() + covariance_b.trace() - 2 * cross).item()
    return max(0.0, squared)


def _root(covariance_DD: Tensor) -> Tensor:
    """R (D, D) with R Rᵀ = Σ."""
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD)
    negative = -values_D.clamp(max=0).sum()
    if negative > _NEGATIVE_SHARE * covariance_DD.trace().abs():
        raise ValueError(
            f"no covariance: its negative eigenvalues sum to {-negative:.3g}, its trace is "
            f"{covariance_DD.trace():.3g}"
        )
    root_DD: Tensor = vectors_DD * values_D.clamp(min=0).sqrt()
    return root_DD
