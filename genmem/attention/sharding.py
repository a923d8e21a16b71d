"""Rows spread over ranks: every rank scores all queries on its rows, and the sums are added up.

Shapes: B a rank's queries, W·B all queries, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.attention.partial import Partial, shrink
from genmem.collectives import add, gather, highest, rank
from genmem.contracts import Hide


def gather_queries(q_BE: Tensor, hide: Hide) -> tuple[Tensor, Hide]:
    """The queries of all ranks, (W·B, E), and what is hidden from each; without gradient."""
    ids, label, t = (None if part is None else gather(part) for part in hide[:3])
    return gather(q_BE), Hide(ids, label, t, hide.window)


def own_share(seen: Partial, count: int) -> Partial:
    """This rank's `count` queries, with the sums over all ranks' rows."""
    high_B = highest(seen.high_B)
    # One message: the largest terms are agreed on, and what is left are sums.
    sums_BK = torch.cat([seen.sum_B[:, None], seen.pull_BE], 1) * shrink(seen, high_B)[:, None]
    sums_BK = add(torch.cat([sums_BK, seen.count_B[:, None]], 1))
    own = slice(rank() * count, (rank() + 1) * count)
    return Partial(high_B[own], sums_BK[own, 0], sums_BK[own, 1:-1], sums_BK[own, -1])
