"""The pass itself and its gradient.

Shapes: B queries, E width, N rows of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from genmem.attention.chunks import Chunk
from genmem.attention.flex import attend_compiled, usable
from genmem.attention.hiding import Rows, require_tags
from genmem.attention.host import attend_on_host, on_host
from genmem.attention.masked import attend_masked
from genmem.attention.partial import Partial, merge, nothing
from genmem.attention.sharding import gather_queries, own_share
from genmem.contracts import Attended, Hide, Metric


def log_sum_exp(
    q_BE: Tensor,
    chunks: Iterable[Chunk],
    scale: float,
    hide: Hide | None = None,
    metric: Metric = "dot",
    *,
    sharded: bool = False,
) -> Attended:
    """log Σ_j exp(scale · s(q, k_j)) over the valid rows that are not hidden from the query.

    Differentiable once in `q_BE`; rows are constants. Products, sums and results are fp32 (fp64 for
    fp64 queries) under any autocast. Where no row counts: value 0, count 0, gradient 0. Distances
    are computed about the queries' mean c, so a logit of the metric "l2" is off by about
    scale · (‖q - c‖² + ‖k - c‖²) · 1e-7, whatever offset queries and rows share.

    Args:
        q_BE: Queries.
        chunks: The rows; read once, from the first to the last.
        scale: Factor on every s, 1/τ.
        hide: Rows that do not count, for each query.
        metric: s(q, k): "dot", q·k; "l2", -‖q - k‖².
        sharded: Every rank holds other rows. Collective then: every rank calls it with equally many
            queries, and each gets the result over all ranks' rows.

    Raises:
        ValueError: To hide by classes or times that the rows do not know.
    """
    precise = torch.promote_types(q_BE.dtype, torch.float32)
    call = _Call(chunks, scale, hide or Hide(), metric, sharded)
    lse_B, count_B = _LogSumExp.apply(q_BE.to(precise), call)  # type: ignore[no-untyped-call]
    return Attended(lse_B, count_B)


class _Call(NamedTuple):
    """The arguments but for the queries."""

    chunks: Iterable[Chunk]
    scale: float
    hide: Hide
    metric: Metric
    sharded: bool


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, q_BE: Tensor, call: _Call) -> tuple[Tensor, Tensor]:
        with torch.autocast(q_BE.device.type, enabled=False):
            lse_B, gradient_BE, count_B = _evaluate(q_BE, call)
        # The gradient is known already: it is all that the backward needs.
        ctx.save_for_backward(gradient_BE)
        ctx.mark_non_differentiable(count_B)
        return lse_B, count_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (gradient_BE,) = ctx.saved_tensors
        return grad_B[:, None] * gradient_BE, None


def _evaluate(q_BE: Tensor, call: _Call) -> tuple[Tensor, Tensor, Tensor]:
    """Values, their gradients s·Σ_j p_j k_j or 2s·(Σ_j p_j k_j - q), and counts."""
    all_BE, hide = gather_queries(q_BE, call.hide) if call.sharded else (q_BE, call.hide)
    if call.metric == "dot":
        seen = _stream(all_BE * call.scale, _plain(call.chunks, q_BE.dtype), hide)
    else:
        # Distances do not change by a shift; their expansion -|q|² - |k|² + 2qk needs small terms.
        centre_E = all_BE.mean(0)
        rows = _about(centre_E, call.chunks, call.scale)
        seen = _stream((all_BE - centre_E) * (2 * call.scale), rows, hide)
    if call.sharded:
        seen = own_share(seen, len(q_BE))
    some_B = seen.count_B > 0
    lse_B = seen.high_B + seen.sum_B.log()
    pull_BE = seen.pull_BE / seen.sum_B[:, None]
    if call.metric == "dot":
        gradient_BE = pull_BE * call.scale
    else:
        own_BE = q_BE - centre_E
        lse_B = lse_B - call.scale * own_BE.square().sum(1)
        gradient_BE = (pull_BE - own_BE) * (2 * call.scale)
    return (
        torch.where(some_B, lse_B, 0.0),
        torch.where(some_B[:, None], gradient_BE, 0.0),
        seen.count_B,
    )


def _plain(chunks: Iterable[Chunk], dtype: torch.dtype) -> Iterator[Rows]:
    for chunk in chunks:
        yield Rows(chunk.keys_NE.to(dtype), chunk)


def _about(centre_E: Tensor, chunks: Iterable[Chunk], scale: float) -> Iterator[Rows]:
    """Rows k - c, with -s·|k - c|² for the metric "l2"."""
    for chunk in chunks:
        keys_NE = chunk.keys_NE.to(centre_E.dtype) - centre_E
        yield Rows(keys_NE, chunk, keys_NE.square().sum(1).mul_(-scale))


def _stream(q_BE: Tensor, rows: Iterable[Rows], hide: Hide) -> Partial:
    attend = attend_on_host if on_host(q_BE) else attend_compiled if usable(q_BE) else attend_masked
    seen = nothing(q_BE)
    for part in rows:
        require_tags(part.chunk, hide)
        if len(part.keys_NE) > 0:
            seen = merge(seen, attend(q_BE, part, hide))
    return seen
