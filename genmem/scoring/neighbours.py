"""Nearest training pictures: how close samples lie to them, and how many are copies.

Shapes: N rows of a query, M rows of a reference, K neighbours, D width.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genmem.scoring.distances import iterate_distances
from genmem.scoring.features import Features, read_features

_AT_ONCE = 1 << 16
"""Rows of the reference in float64 at once."""

_SPARE = 8
"""Further candidates whose distance is worked out again from differences."""


def nearest(query: Features, reference: Features, k: int = 1) -> tuple[Tensor, Tensor]:
    """Euclidean distances (N, K) float64 and row numbers (N, K) int64 of the K nearest rows.

    Exact: candidates come from a matrix product, their distances from differences, so that a
    copy is at distance 0. Nearest first; of equally near rows the lower number, unless more
    than eight of them tie for the last places.

    Raises:
        TypeError, ValueError: Not floating-point, not (N, D), different widths, fewer than K
            rows of reference, or a value that is not finite.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    if len(reference) < k:
        raise ValueError(f"reference: {len(reference)} rows, needs at least {k}")
    query_ND = read_features("query", query, width=reference.shape[-1])
    best_NK: tuple[Tensor, Tensor] | None = None
    for first in range(0, len(reference), _AT_ONCE):
        rows_MD = read_features("reference", reference[first : first + _AT_ONCE])
        distances_NC, numbers_NC = _nearest_of(query_ND, rows_MD, min(k, len(rows_MD)))
        numbers_NC += first
        if best_NK is not None:
            distances_NC = torch.cat([best_NK[0], distances_NC], 1)
            numbers_NC = torch.cat([best_NK[1], numbers_NC], 1)
        # Stable, and earlier rows stand first: of equally near ones the lower number stays.
        distances_NC, order_NC = distances_NC.sort(stable=True)
        best_NK = distances_NC[:, :k], numbers_NC.gather(1, order_NC)[:, :k]
    assert best_NK is not None
    return best_NK


def _nearest_of(query_ND: Tensor, rows_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = []
    for start, distances_RM in iterate_distances(query_ND, rows_MD):
        numbers_RC = distances_RM.topk(min(k + _SPARE, len(rows_MD)), largest=False).indices.sort().values
        found.append(_closest(query_ND[start : start + len(numbers_RC)], rows_MD, numbers_RC, k))
    return torch.cat([distances for distances, _ in found]), torch.cat([numbers for _, numbers in found])


def _closest(query_RD: Tensor, rows_MD: Tensor, numbers_RC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k closest of the candidates, by exact distance, then by number."""
    columns = numbers_RC.unbind(1)
    exact_RC = torch.stack([(query_RD - rows_MD[number]).norm(dim=1) for number in columns], 1)
    distances_RC, order_RC = exact_RC.sort(stable=True)
    return distances_RC[:, :k], numbers_RC.gather(1, order_RC)[:, :k]


QUANTILE = 0.01
"""Share of held-out pictures that lie as near to a training picture as what is called a copy."""


@attrs.frozen(kw_only=True)
class Copies:
    """How close samples lie to the training pictures, beside held-out pictures."""

    rate: float
    """Share of samples at most `threshold` from their nearest training picture."""

    threshold: float
    """That quantile of the held-out pictures' distances to theirs."""

    sample_distance: float
    """Mean distance of a sample to its nearest training picture."""

    held_out_distance: float
    """The same of held-out pictures."""


def copy_rate(samples: Features, held_out: Features, train: Features, quantile: float = QUANTILE) -> Copies:
    """Share of samples nearer to a training picture than 99 % of held-out pictures are.

    Pictures that were never trained on score about `quantile`. "At most" as near rather than
    nearer, so that copies count where held-out pictures have twins among the training ones.

    Raises:
        TypeError, ValueError: As `nearest`; a quantile outside (0, 1); too few held-out
            pictures to have that quantile.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be in (0, 1), got {quantile}")
    held = read_features("held-out pictures", held_out)
    if len(held) * quantile < 1:
        raise ValueError(
            f"{len(held)} held-out pictures have no {quantile:g} quantile: give {1 / quantile:.0f} or more, "
            "or a larger quantile"
        )
    generated = read_features("samples", samples, width=held.shape[1])
    held_N, sample_N = nearest(held, train)[0][:, 0], nearest(generated, train)[0][:, 0]
    threshold = held_N.quantile(quantile).item()
    return Copies(
        rate=(sample_N <= threshold).double().mean().item(),
        threshold=threshold,
        sample_distance=sample_N.mean().item(),
        held_out_distance=held_N.mean().item(),
    )
