"""Sums over some of the rows, which can be put together (online softmax).

Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Partial(NamedTuple):
    """Σ_j exp(l_j), relative to the largest term, over the rows seen."""

    high_B: Tensor
    """The largest logit, or what stands for it; -inf where no row counted."""

    sum_B: Tensor
    """Σ_j exp(l_j - high)."""

    pull_BE: Tensor
    """Σ_j exp(l_j - high)·k_j."""

    count_B: Tensor
    """Rows that counted."""


def nothing(q_BE: Tensor) -> Partial:
    """The sums over no rows."""
    none_B = q_BE.new_zeros(len(q_BE))
    return Partial(none_B - torch.inf, none_B, torch.zeros_like(q_BE), none_B)


def merge(one: Partial, other: Partial) -> Partial:
    """The sums over the rows of both."""
    high_B = torch.maximum(one.high_B, other.high_B)
    a_B, b_B = shrink(one, high_B), shrink(other, high_B)
    return Partial(
        high_B,
        one.sum_B * a_B + other.sum_B * b_B,
        one.pull_BE * a_B[:, None] + other.pull_BE * b_B[:, None],
        one.count_B + other.count_B,
    )


def shrink(part: Partial, high_B: Tensor) -> Tensor:
    """exp(part's high - a common high): the factor that makes sums relative to the latter."""
    # Nothing has counted yet where the largest term is -inf; exp(-inf - 0) = 0 then.
    return (part.high_B - finite(high_B)).exp()


def finite(high_B: Tensor) -> Tensor:
    """The same with 0 for -inf."""
    return high_B.masked_fill(high_B == -torch.inf, 0.0)


def of_logits(logits_BN: Tensor, keys_NE: Tensor, count_B: Tensor) -> Partial:
    """The sums over rows with these logits, -inf where one does not count; overwrites them."""
    high_B = logits_BN.amax(1)
    weight_BN = logits_BN.sub_(finite(high_B)[:, None]).exp_()
    return Partial(high_B, weight_BN.sum(1), weight_BN @ keys_NE, count_B)
