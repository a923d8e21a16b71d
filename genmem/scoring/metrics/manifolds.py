"""Precision and recall of samples (Kynkäänniemi et al., 2019).

A set's manifold is the union of balls about its rows, each just reaching its row's K-th nearest
other row. Precision: share of samples in the reference's manifold. Recall: the other way round.
Shapes: N and M rows, R and S rows of a block, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features

NEIGHBOURS = 3
_BLOCK = 2048


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1."""

    precision: float
    recall: float


def precision_recall(samples: Features, reference: Features, k: int = NEIGHBOURS) -> PrecisionRecall:
    """Both, in float64, a block of distances at a time.

    Raises:
        TypeError, ValueError: Not floating-point, not (N, D), different widths, K rows or fewer,
            or a value that is not finite.
    """
    for name, rows in (("samples", samples), ("reference", reference)):
        if len(rows) <= k or k < 1:
            raise ValueError(
                f"{name}: {len(rows)} rows, needs more than {k}: precision looks at {k} neighbours"
            )
    return PrecisionRecall(
        precision=_share_within(samples, reference, _radii(reference, k)),
        recall=_share_within(reference, samples, _radii(samples, k)),
    )


def _radii(rows: Features, k: int) -> Tensor:
    """(N,) distance of each row to its k-th nearest other row."""
    found = []
    for start, x_RD in _blocks(rows, rows):
        nearest_RK = x_RD.new_full((len(x_RD), k), torch.inf)
        for other, y_SD in _blocks(rows, rows):
            distance_RS = torch.cdist(x_RD, y_SD)
            if start == other:
                distance_RS.fill_diagonal_(torch.inf)
            nearest_RK = torch.cat([nearest_RK, distance_RS], 1).topk(k, largest=False).values
        found.append(nearest_RK.amax(1))
    return torch.cat(found)


def _share_within(rows: Features, centres: Features, radius_M: Tensor) -> float:
    """Share of rows that lie in a ball about a centre."""
    inside = 0
    for _, x_RD in _blocks(rows, centres):
        within_R = torch.zeros(len(x_RD), dtype=torch.bool, device=x_RD.device)
        for start, y_SD in _blocks(centres, centres):
            within_R |= (torch.cdist(x_RD, y_SD) <= radius_M[start : start + len(y_SD)]).any(1)
        inside += int(within_R.sum())
    return inside / len(rows)


def _blocks(rows: Features, origin: Features) -> Iterator[tuple[int, Tensor]]:
    """First number and float64 rows, about the first row of `origin`: a common offset costs no digits."""
    origin_D = read_features("reference", origin[:1])[0]
    for start in range(0, len(rows), _BLOCK):
        yield start, read_features("features", rows[start : start + _BLOCK], width=len(origin_D)) - origin_D
