"""Sums over a chunk by masks over everything: no size depends on a value, so no host waits.

Shapes: B queries, N rows of one chunk, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.attention.hiding import Rows, counted
from genmem.attention.partial import Partial, of_logits
from genmem.contracts import Hide


def attend_masked(q_BE: Tensor, rows: Rows, hide: Hide) -> Partial:
    """The sums over one chunk that has at least one row."""
    keys_NE, bias_N = rows.keys_NE, rows.bias_N
    if rows.chunk.valid_N is not None:
        # 0 · NaN is NaN: rows that do not count must not reach a product.
        keys_NE = torch.where(rows.chunk.valid_N[:, None], keys_NE, 0.0)
    logits_BN = q_BE @ keys_NE.mT if bias_N is None else torch.addmm(bias_N, q_BE, keys_NE.mT)
    counts_BN = counted(rows.chunk, hide)
    if counts_BN is None:
        return of_logits(logits_BN, keys_NE, q_BE.new_full((len(q_BE),), len(keys_NE)))
    logits_BN.masked_fill_(counts_BN.logical_not(), -torch.inf)
    return of_logits(logits_BN, keys_NE, counts_BN.sum(1).to(q_BE.dtype).expand(len(q_BE)))
