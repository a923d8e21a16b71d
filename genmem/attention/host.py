"""Sums over a chunk on the host, where looking at values is free.

Rows that count for every query go through fused attention. The few with the sample number of some
query are left out of it, so that nothing has to be subtracted, and are added by masks.
Shapes: B queries, N rows of one chunk, E width.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from genmem.attention import fused
from genmem.attention.chunks import Chunk
from genmem.attention.hiding import Rows, pieces, select
from genmem.attention.masked import attend_masked
from genmem.attention.partial import Partial, merge, nothing
from genmem.contracts import Hide

PRODUCTS = 2**20
"""Logits at a time that stay in cache, with the masks over them."""


def on_host(tensor: Tensor) -> bool:
    """Whether the host computes what this tensor is part of."""
    return tensor.device.type == "cpu"


def attend_on_host(q_BE: Tensor, rows: Rows, hide: Hide) -> Partial:
    """The sums over one chunk."""
    valid_N = rows.chunk.valid_N
    if valid_N is not None:
        rows = rows if valid_N.all() else select(rows, valid_N)
        rows = rows._replace(chunk=rows.chunk._replace(valid_N=None))
    if len(rows.keys_NE) == 0:
        return nothing(q_BE)
    if hide.label_B is not None or hide.t_B is not None:
        return _attend_by_masks(q_BE, rows, hide)
    shared_N = _shared(rows.chunk.ids_N, hide.ids_B)
    if shared_N is None:
        return _attend_to_all(q_BE, rows)
    few = _attend_by_masks(q_BE, select(rows, shared_N), hide)
    if shared_N.all():
        return few
    # No query hides any of these, so there is no need to know their numbers.
    others = select(rows._replace(chunk=Chunk(rows.keys_NE)), shared_N.logical_not())
    return merge(_attend_to_all(q_BE, others), few)


def _attend_to_all(q_BE: Tensor, rows: Rows) -> Partial:
    if fused.available(q_BE.dtype):
        return fused.attend(q_BE, rows.keys_NE, rows.bias_N)
    return _attend_by_masks(q_BE, rows, Hide())


def _attend_by_masks(q_BE: Tensor, rows: Rows, hide: Hide) -> Partial:
    parts = (attend_masked(q_BE, part, hide) for part in pieces(rows, PRODUCTS // max(len(q_BE), 1) + 1))
    return reduce(merge, parts)


def _shared(ids_N: Tensor | None, ids_B: Tensor | None) -> Tensor | None:
    """(N,) bool: rows with the sample number of some query, by sorted search; None where there is none."""
    if ids_N is None or ids_B is None or len(ids_B) == 0:
        return None
    sorted_B = ids_B.sort().values
    place_N = torch.searchsorted(sorted_B, ids_N).clamp_max_(len(ids_B) - 1)
    shared_N = sorted_B[place_N] == ids_N
    return shared_N if shared_N.any() else None
