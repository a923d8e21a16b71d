"""torch's fused attention on the host, which gives the log-sum-exp beside the weighted mean.

The operator is private to torch, so it is called in one place, and used only where a small
computation shows that it still does what is expected of it.
Shapes: B queries, N rows, E width, H parts of the rows, worked on at the same time.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from genmem.attention.partial import Partial

QUERIES_OF_A_TASK = 64
"""Queries that one thread takes at a time; with fewer tasks than threads, rows are divided too."""


def attend(q_BE: Tensor, keys_NE: Tensor, bias_N: Tensor | None) -> Partial:
    """The sums over all rows for all queries; logits are q·k + bias."""
    parts = _parts(len(q_BE), len(keys_NE))
    lse_HB, mean_HBE = _attend_in_parts(q_BE, keys_NE, bias_N, parts)
    count_B = q_BE.new_full((len(q_BE),), len(keys_NE))
    if parts == 1:
        return Partial(lse_HB[0], torch.ones_like(count_B), mean_HBE[0], count_B)
    high_B = lse_HB.amax(0)
    weight_HB = (lse_HB - high_B).exp()
    return Partial(high_B, weight_HB.sum(0), (weight_HB[..., None] * mean_HBE).sum(0), count_B)


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether this torch has the operator, and it adds a bias, divides rows and gives the log-sum-exp."""
    source = torch.Generator().manual_seed(0)
    q_BE = torch.randn(3, 8, generator=source).to(dtype)
    keys_NE = torch.randn(12, 8, generator=source).to(dtype)
    bias_N = torch.randn(12, generator=source).to(dtype)
    logits_HBN = (q_BE @ keys_NE.mT + bias_N).view(3, 2, 6).transpose(0, 1)
    expected = logits_HBN.logsumexp(2), logits_HBN.softmax(2) @ keys_NE.view(2, 6, 8)
    try:
        found = _attend_in_parts(q_BE, keys_NE, bias_N, 2)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return all(
        one.shape == other.shape and one.dtype == dtype and torch.allclose(one, other, atol=1e-5)
        for one, other in zip(found, expected, strict=True)
    )


def _parts(queries: int, rows: int) -> int:
    """Parts to divide the rows into: enough work for all threads, if they divide evenly."""
    parts = -(-torch.get_num_threads() // -(-queries // QUERIES_OF_A_TASK))
    return parts if rows % parts == 0 else 1


def _attend_in_parts(
    q_BE: Tensor, keys_NE: Tensor, bias_N: Tensor | None, parts: int
) -> tuple[Tensor, Tensor]:
    """Log-sum-exp (H, B) and weighted mean of the rows (H, B, E) in each of equal parts, as heads."""
    heads_HNE = keys_NE.view(1, parts, -1, keys_NE.shape[1])
    mean, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q_BE.expand(1, parts, -1, -1),
        heads_HNE,
        heads_HNE,
        attn_mask=None if bias_N is None else bias_N.view(1, parts, 1, -1),
        scale=1.0,
    )
    return lse[0], mean[0]
