"""The kernel distance between two sets of features: KID (Bińkowski et al., 2018).

Shapes: N and M rows, S rows of a subset, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features

SUBSETS = 100
SUBSET = 1000
SEED = 2020


class KernelDistance(NamedTuple):
    """MMD² over subsets."""

    mean: float
    """May fall a little below 0 where the two distributions are equal: it has no bias."""

    deviation: float
    """Standard deviation over the subsets."""


def kernel_distance(
    x: Features, y: Features, *, subset: int = SUBSET, subsets: int = SUBSETS, seed: int = SEED
) -> KernelDistance:
    """The unbiased MMD² with the kernel (x·y / D + 1)³, averaged over random subsets of S rows.

    The subsets are those that torch-fidelity draws with its default seed.

    Raises:
        TypeError, ValueError: Not floating-point, not (N, D), different widths, fewer than S rows,
            or a value that is not finite; S or the number of subsets too small.
    """
    if subset < 2 or subsets < 1:
        raise ValueError(f"KID needs subsets of 2 rows or more, 1 or more of them; got {subset}, {subsets}")
    draw = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        rows = [_take(name, rows, subset, draw) for name, rows in (("samples", x), ("reference", y))]
        values.append(_unbiased(*rows))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _take(name: str, features: Features, count: int, draw: np.random.RandomState) -> Tensor:
    if len(features) < count:
        raise ValueError(
            f"{name}: {len(features)} rows, KID draws subsets of {count}; "
            "give more pictures or smaller subsets"
        )
    numbers_S = draw.choice(len(features), count, replace=False)
    return read_features(name, features[numbers_S])


def _unbiased(x_SD: Tensor, y_SD: Tensor) -> float:
    """Mean over pairs of different rows within x, and within y, less twice the mean between."""
    count = len(x_SD)
    within = sum(
        kernel.sum() - kernel.diagonal().sum() for kernel in (_kernel(x_SD, x_SD), _kernel(y_SD, y_SD))
    )
    return float(within / (count * (count - 1)) - 2 * _kernel(x_SD, y_SD).mean())


def _kernel(x_SD: Tensor, y_SD: Tensor) -> Tensor:
    if x_SD.shape[1] != y_SD.shape[1]:
        raise ValueError(
            f"reference: features of width {y_SD.shape[1]} where width {x_SD.shape[1]} is expected"
        )
    kernel_SS: Tensor = torch.addmm(torch.ones((), dtype=x_SD.dtype), x_SD, y_SD.T, alpha=1 / x_SD.shape[1])
    return kernel_SS.pow(3)
