"""Energy distance between two sets of features (Székely and Rizzo, 2013).

Shapes: N and M rows, D width.
"""

from __future__ import annotations

from torch import Tensor

from genmem.scoring.distances import iterate_distances
from genmem.scoring.features import Features, read_features


def energy_distance(x_ND: Features, y_MD: Features) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| with Euclidean norms, in the features' own unit.

    The U-statistic: X and X' are never the same row. It estimates the distance between the two
    distributions without bias, whatever N and M, and so may fall slightly below 0 where they
    are equal. Unlike a Fréchet distance it is 0 for equal distributions only.

    Raises:
        TypeError, ValueError: Not floating-point, not (N, D), different widths, fewer than two
            rows, or a value that is not finite.
    """
    x = read_features("x", x_ND, least=2)
    y = read_features("y", y_MD, width=x.shape[1], least=2)
    return 2 * _mean_between(x, y) - _mean_within(x) - _mean_within(y)


def _mean_between(x_ND: Tensor, y_MD: Tensor) -> float:
    total = sum(distances.sum().item() for _, distances in iterate_distances(x_ND, y_MD))
    return total / (len(x_ND) * len(y_MD))


def _mean_within(x_ND: Tensor) -> float:
    total = 0.0
    for start, distances in iterate_distances(x_ND, x_ND):
        # A row is at distance 0 from itself; the block's arithmetic need not say so.
        distances.diagonal(start).zero_()
        total += distances.sum().item()
    return total / (len(x_ND) * (len(x_ND) - 1))
