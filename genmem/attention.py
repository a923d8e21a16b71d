"""One pass over the rows of a memory: log-sum-exp with its gradient, and the closest rows.

For L_i = log Σ_j exp(s·q_i·k_j) the gradient is s·Σ_j p_ij k_j: attention with the keys as values.
A single streaming pass gives both, so rows are read once in a step, never in the backward, and no
(B, rows) tensor exists. Any layout may use it: it hands over its rows in chunks.

Shapes: B queries, E width, N rows of one chunk, K rows asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from genmem.contracts import Attended

CHUNK_ROWS = 4096
"""A good number of rows in a chunk: the (B, N) logits stay in cache, the calls stay few."""


class Chunk(NamedTuple):
    """Consecutive rows of a memory."""

    keys_NE: Tensor
    """Rows in fp32, bf16 or fp64; those that are not valid may hold anything, NaN included."""

    ids_N: Tensor | None = None
    """int64 sample numbers; rows without them are hidden from nobody."""

    valid_N: Tensor | None = None
    """bool; every row counts where it is absent."""


def log_sum_exp(q_BE: Tensor, chunks: Iterable[Chunk], scale: float, ids_B: Tensor | None = None) -> Attended:
    """log Σ_j exp(scale · q·k_j) over the valid rows that do not carry the query's own id.

    Differentiable once in `q_BE`; rows are constants. Products, sums and results are fp32 (fp64 for
    fp64 queries) under any autocast. Where no row counts: value 0, count 0, gradient 0.

    Args:
        q_BE: Queries.
        chunks: The rows; read once, from the first to the last.
        scale: Factor on every inner product, 1/τ.
        ids_B: int64 sample numbers of the queries; no row is hidden where they are absent.
    """
    precise = torch.promote_types(q_BE.dtype, torch.float32)
    lse_B, count_B = _LogSumExp.apply(q_BE.to(precise), chunks, scale, ids_B)  # type: ignore[no-untyped-call]
    return Attended(lse_B, count_B)


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
            logits_BN, _, _ = _mask(q_BE.float(), chunk, None)
            number_N = torch.arange(seen, seen + logits_BN.shape[1], device=q_BE.device)
            seen += logits_BN.shape[1]
            product_BK = torch.cat([product_BK, logits_BN], 1)
            number_BK = torch.cat([number_BK, number_N.expand_as(logits_BN)], 1)
            product_BK, order_BK = product_BK.topk(min(k, product_BK.shape[1]), 1)
            number_BK = number_BK.gather(1, order_BK)
    if seen < k:
        raise ValueError(f"asked for the {k} closest rows of a memory that has {seen}; ask for fewer")
    return product_BK, number_BK.masked_fill(product_BK == -torch.inf, -1)


class _Pass(NamedTuple):
    """What has been seen so far of Σ_j exp(s·q·k_j), relative to the largest term."""

    high_B: Tensor
    sum_B: Tensor
    pull_BE: Tensor
    """Σ_j exp(s·q·k_j - high)·k_j."""

    count_B: Tensor


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q_BE: Tensor, chunks: Iterable[Chunk], scale: float, ids_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(q_BE.device.type, enabled=False):
            high_B, sum_B, pull_BE, count_B = _stream(q_BE * scale, chunks, ids_B)
        some_B = count_B > 0
        # ∂L_i/∂q_i = s · Σ_j p_ij k_j is known already: it is all that the backward needs.
        gradient_BE = torch.where(some_B[:, None], pull_BE * (scale / sum_B)[:, None], 0.0)
        ctx.save_for_backward(gradient_BE)
        ctx.mark_non_differentiable(count_B)
        return torch.where(some_B, high_B + sum_B.log(), 0.0), count_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_BE,) = ctx.saved_tensors
        return grad_B[:, None] * gradient_BE, None, None, None


def _stream(q_BE: Tensor, chunks: Iterable[Chunk], ids_B: Tensor | None) -> _Pass:
    nothing_B = q_BE.new_zeros(len(q_BE))
    seen = _Pass(nothing_B - torch.inf, nothing_B, torch.zeros_like(q_BE), nothing_B)
    for chunk in chunks:
        seen = _take(seen, q_BE, chunk, ids_B)
    return seen


def _take(seen: _Pass, q_BE: Tensor, chunk: Chunk, ids_B: Tensor | None) -> _Pass:
    """The pass after one more chunk (online softmax)."""
    multiply = _compact if _on_host(q_BE) else _mask
    logits_BN, keys_NE, count_B = multiply(q_BE, chunk, ids_B)
    if logits_BN.shape[1] == 0:
        return seen
    high_B = torch.maximum(seen.high_B, logits_BN.amax(1))
    # Nothing has counted yet where the largest term is -inf; exp(-inf - 0) = 0 then.
    level_B = high_B.masked_fill(high_B == -torch.inf, 0.0)
    shrink_B = (seen.high_B - level_B).exp()
    weight_BN = logits_BN.sub_(level_B[:, None]).exp_()
    return _Pass(
        high_B,
        seen.sum_B * shrink_B + weight_BN.sum(1),
        torch.addmm(seen.pull_BE * shrink_B[:, None], weight_BN, keys_NE),
        seen.count_B + count_B,
    )


class _Products(NamedTuple):
    """The inner products of one chunk."""

    logits_BN: Tensor
    """-inf where a row does not count."""

    keys_NE: Tensor
    """The rows, in the queries' precision, all finite where they count."""

    count_B: Tensor | int
    """Rows that count."""


def _on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _mask(q_BE: Tensor, chunk: Chunk, ids_B: Tensor | None) -> _Products:
    """By masks over everything: no size depends on a value, so the host waits for nothing."""
    keys_NE = chunk.keys_NE.to(q_BE.dtype)
    hidden_BN = _hidden(chunk, ids_B)
    if chunk.valid_N is not None:
        # 0 · NaN is NaN: rows that do not count must not reach a product.
        keys_NE = torch.where(chunk.valid_N[:, None], keys_NE, 0.0)
    logits_BN = q_BE @ keys_NE.mT
    if hidden_BN is None:
        return _Products(logits_BN, keys_NE, len(keys_NE))
    count_B = hidden_BN.logical_not().sum(1)
    return _Products(logits_BN.masked_fill_(hidden_BN, -torch.inf), keys_NE, count_B)


def _hidden(chunk: Chunk, ids_B: Tensor | None) -> Tensor | None:
    """(1, N) or (B, N) bool: rows that do not count; None where all do."""
    invalid_1N = None if chunk.valid_N is None else chunk.valid_N.logical_not()[None]
    if ids_B is None or chunk.ids_N is None:
        return invalid_1N
    own_BN = ids_B[:, None] == chunk.ids_N[None]
    return own_BN if invalid_1N is None else own_BN.logical_or_(invalid_1N)


def _compact(q_BE: Tensor, chunk: Chunk, ids_B: Tensor | None) -> _Products:
    """The same on the host, where looking is free: a third less time, for own rows are few."""
    keys_NE, ids_N = chunk.keys_NE, chunk.ids_N
    if chunk.valid_N is not None and not chunk.valid_N.all():
        keys_NE = keys_NE[chunk.valid_N]
        ids_N = None if ids_N is None else ids_N[chunk.valid_N]
    keys_NE = keys_NE.to(q_BE.dtype)
    logits_BN = q_BE @ keys_NE.mT
    if ids_B is None or ids_N is None:
        return _Products(logits_BN, keys_NE, len(keys_NE))
    shared = torch.isin(ids_N, ids_B).nonzero()[:, 0]
    query, place = (ids_B[:, None] == ids_N[shared]).nonzero(as_tuple=True)
    logits_BN[query, shared[place]] = -torch.inf
    return _Products(logits_BN, keys_NE, len(keys_NE) - torch.bincount(query, minlength=len(q_BE)))
