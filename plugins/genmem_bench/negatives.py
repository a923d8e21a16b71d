"""Benchmark `negatives`: log-sum-exp over a memory and its gradient, for one batch of queries.

Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.attention import Chunk, log_sum_exp, rows_at_once
from genmem.contracts import Hide
from genmem_bench.allocations import peak_bytes
from genmem_bench.rounds import interleave, ratio
from genmem_bench.straightforward import log_mean_exp

TEMPERATURE = 0.2


class Problem(NamedTuple):
    """Unit queries and rows with sample numbers; each query has one copy of its own among the rows."""

    q_BE: Tensor
    ids_B: Tensor
    bank_NE: Tensor
    bank_ids_N: Tensor


def pose(rows: int, width: int, batch: int, device: torch.device) -> Problem:
    """A problem of this size, the same every time."""
    source = torch.Generator().manual_seed(0)
    q_BE = F.normalize(torch.randn(batch, width, generator=source), dim=1).to(device)
    bank_NE = F.normalize(torch.randn(rows, width, generator=source), dim=1).to(device)
    bank_ids_N = torch.arange(rows, device=device)
    ids_B = torch.randint(rows, (batch,), generator=source).to(device)
    return Problem(q_BE.requires_grad_(), ids_B, bank_NE, bank_ids_N)


def one_pass(problem: Problem) -> tuple[Tensor, Tensor]:
    """Loss and gradient by genmem's single pass."""
    size = rows_at_once(problem.q_BE.device)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(problem.bank_NE), size):
            part = slice(start, start + size)
            yield Chunk(problem.bank_NE[part], problem.bank_ids_N[part], problem.bank_ids_N[part] >= 0)

    loss = log_sum_exp(problem.q_BE, chunks(), 1 / TEMPERATURE, Hide(problem.ids_B)).lse_B.mean()
    (gradient,) = torch.autograd.grad(loss, problem.q_BE)
    return loss.detach(), gradient


def straightforward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Loss and gradient by autograd through all logits."""
    p = problem
    return log_mean_exp(p.q_BE, p.bank_NE, TEMPERATURE, p.ids_B, p.bank_ids_N)


def measure(rows: int, width: int, batch: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Times, ratio and memory for one number of rows; seconds and bytes.

    Raises:
        AssertionError: Where the two forms disagree.
    """
    problem = pose(rows, width, batch, device)
    require_equal(one_pass(problem), straightforward(problem))
    forms: dict[str, Callable[[], object]] = {
        "one pass": lambda: one_pass(problem),
        "straightforward": lambda: straightforward(problem),
    }
    timings = interleave(forms, rounds, lambda: wait_for(device))
    ours, theirs = timings["one pass"], timings["straightforward"]
    return {
        "rows": rows,
        "seconds": ours.least,
        "spread": ours.spread,
        "compared_seconds": theirs.least,
        "compared_spread": theirs.spread,
        "ratio": ratio(theirs, ours),
        "extra_bytes": peak_bytes(forms["one pass"], device),
        "compared_extra_bytes": peak_bytes(forms["straightforward"], device),
        "bank_bytes": problem.bank_NE.nbytes + problem.bank_ids_N.nbytes,
    }


def run(rows: tuple[int, ...], width: int, batch: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """The whole benchmark, as one object."""
    return {
        "benchmark": "negatives",
        "width": width,
        "batch": batch,
        "rounds": rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sizes": [measure(number, width, batch, rounds, device) for number in rows],
    }


def require_equal(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """Values and gradients agree to fp32 rounding.

    Raises:
        AssertionError: They do not.
    """
    value, gradient = (float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))
    if not (value < 1e-5 and gradient < 1e-4):
        raise AssertionError(
            f"the two forms differ: value by {value:.1e}, gradient by {gradient:.1e}, relatively"
        )


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
