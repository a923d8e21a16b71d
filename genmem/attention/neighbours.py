"""The closest rows.

Shapes: B queries, E width, N rows of one chunk, K rows asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from genmem.attention.chunks import Chunk


def closest(q_BE: Tensor, chunks: Iterable[Chunk], k: int) -> tuple[Tensor, Tensor]:
    """Inner products (B, K) and row numbers (B, K) of the k largest, largest first.

    Rows are numbered in the order of the chunks. Where fewer than k rows are valid, the rest is
    -inf with number -1.

    Raises:
        ValueError: Fewer than k rows, valid or not.
    """
    product_BK = q_BE.new_empty(len(q_BE), 0, dtype=torch.float32)
    number_BK = torch.empty(len(q_BE), 0, dtype=torch.int64, device=q_BE.device)
    seen = 0
    with torch.no_grad(), torch.autocast(q_BE.device.type, enabled=False):
        for chunk in chunks:
            product_BN = _products(q_BE.float(), chunk)
            number_N = torch.arange(seen, seen + product_BN.shape[1], device=q_BE.device)
            seen += product_BN.shape[1]
            product_BK = torch.cat([product_BK, product_BN], 1)
            number_BK = torch.cat([number_BK, number_N.expand_as(product_BN)], 1)
            product_BK, order_BK = product_BK.topk(min(k, product_BK.shape[1]), 1)
            number_BK = number_BK.gather(1, order_BK)
    if seen < k:
        raise ValueError(f"asked for the {k} closest rows of a memory that has {seen}; ask for fewer")
    return product_BK, number_BK.masked_fill(product_BK == -torch.inf, -1)


def _products(q_BE: Tensor, chunk: Chunk) -> Tensor:
    """(B, N), -inf where a row is not valid."""
    product_BN = q_BE @ chunk.keys_NE.to(q_BE.dtype).mT
    if chunk.valid_N is None:
        return product_BN
    return product_BN.masked_fill_(chunk.valid_N.logical_not(), -torch.inf)
