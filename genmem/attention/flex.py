"""Sums over a chunk by flex attention: one compiled kernel with the masks in it.

Used on CUDA alone. Run without compilation it gives the same numbers anywhere, slowly.
Shapes: B queries, N rows of one chunk, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from genmem.attention.hiding import Rows, asked_at, counted, counts_for, tags_at
from genmem.attention.partial import Partial
from genmem.contracts import Hide

NARROWEST = 16
"""Width below which the kernel does not work; a width that is no power of two has none in older torch."""


def usable(q_BE: Tensor) -> bool:
    """Whether the kernel takes these queries on the device they are on."""
    width = q_BE.shape[1]
    fits = width >= NARROWEST and width & (width - 1) == 0 and q_BE.dtype == torch.float32
    return fits and q_BE.device.type == "cuda" and find_spec("triton") is not None


def attend_compiled(q_BE: Tensor, rows: Rows, hide: Hide) -> Partial:
    """The sums over one chunk that has at least one row."""
    return _compiled()(q_BE, rows, hide)


def attend_flex(q_BE: Tensor, rows: Rows, hide: Hide) -> Partial:
    """The same, as it is compiled."""
    from torch.nn.attention.flex_attention import flex_attention

    keys_NE, chunk = rows.keys_NE, rows.chunk
    if chunk.valid_N is not None:
        keys_NE = torch.where(chunk.valid_N[:, None], keys_NE, 0.0)

    # A tensor, for a number that changes between calls cannot enter the kernel.
    window = q_BE.new_full((), hide.window)

    def score(logit: Tensor, _batch: Tensor, _head: Tensor, query: Tensor, row: Tensor) -> Tensor:
        if rows.bias_N is not None:
            logit = logit + rows.bias_N[row]
        counts = counts_for(asked_at(hide, query), tags_at(chunk, row), window)
        return logit if counts is None else torch.where(counts, logit, -torch.inf)

    mean, lse = _with_log_sum_exp(flex_attention, q_BE[None, None], keys_NE[None, None], score)
    counts_BN = counted(chunk, hide)
    all_B = q_BE.new_full((len(q_BE),), len(keys_NE))
    count_B = all_B if counts_BN is None else counts_BN.sum(1).to(q_BE.dtype).expand_as(all_B)
    some_B = count_B > 0
    return Partial(
        torch.where(some_B, lse[0, 0], -torch.inf),
        some_B.to(q_BE.dtype),
        torch.where(some_B[:, None], mean[0, 0], 0.0),
        count_B,
    )


def _with_log_sum_exp(
    flex_attention: Callable[..., Any], q: Tensor, keys: Tensor, score: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Weighted mean and log-sum-exp, by the name that this torch has for it."""
    import torch.nn.attention.flex_attention as module

    request = getattr(module, "AuxRequest", None)
    if request is None:
        mean, lse = flex_attention(q, keys, keys, score_mod=score, scale=1.0, return_lse=True)
        return mean, lse
    mean, aux = flex_attention(q, keys, keys, score_mod=score, scale=1.0, return_aux=request(lse=True))
    return mean, aux.lse


@cache
def _compiled() -> Callable[[Tensor, Rows, Hide], Partial]:
    return torch.compile(attend_flex)
