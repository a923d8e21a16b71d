"""Collectives that a component may use. In a single process each is the identity.

Rows are gathered rank by rank; ranks own contiguous pieces of the global batch, so the result is
in the order of the global batch. Every rank must bring equally many rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_PREPARATION_S = 30 * 24 * 3600.0
"""No limit: encoding a set, or its bank, may take days."""

_ALONE = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process computes as if it were the only one, and waits for no other."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def world_size() -> int:
    """Processes in the run; 1 outside a process group."""
    return dist.get_world_size() if dist.is_initialized() and not _ALONE.get() else 1


def rank() -> int:
    """This process's number; 0 outside a process group."""
    return dist.get_rank() if dist.is_initialized() and not _ALONE.get() else 0


def share(count: int) -> tuple[int, int]:
    """This rank's part of so many: the first, and the first beyond. Parts differ by one at most."""
    world, own = world_size(), rank()
    return count * own // world, count * (own + 1) // world


def gather(rows: Tensor) -> Tensor:
    """All ranks' rows (N, …) as (world · N, …), without gradient."""
    if world_size() == 1:
        return rows
    sent = _reachable(rows).contiguous()
    parts = [torch.empty_like(sent) for _ in range(world_size())]
    dist.all_gather(parts, sent)
    return torch.cat(parts).to(rows.device)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """All ranks' rows (N, …) as (world · N, …); the backward sums gradients over ranks.

    With the full loss on every rank, and gradients averaged over ranks afterwards, this gives
    exactly the gradient of one process that holds the whole batch.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def add(value: Tensor) -> Tensor:
    """The sum over ranks, without gradient."""
    if world_size() == 1:
        return value
    total = _reachable(value.detach()).clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total.to(value.device)


def highest(value: Tensor) -> Tensor:
    """The largest over ranks, element by element, without gradient."""
    if world_size() == 1:
        return value
    largest = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def mean(value: Tensor) -> Tensor:
    """The mean over ranks, without gradient."""
    return value if world_size() == 1 else add(value) / world_size()


def any_rank(flag: Tensor) -> Tensor:
    """A bool (on the device) that is true if it is true on any rank."""
    if world_size() == 1:
        return flag
    number = flag.to(torch.int32)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return number.bool()


def host_group(patience: float) -> dist.ProcessGroup | None:
    """A new group of all ranks that talks over the hosts' network: another thread's collectives do not
    mix with those of the step. A collective in it fails after so many seconds. None in a single process.
    Collective."""
    if world_size() == 1:
        return None
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=patience))
    return group


def first_word(word: str | None) -> str | None:
    """Of what the ranks have to say, the first that says anything; every rank gets the same."""
    if world_size() == 1:
        return word
    words: list[str | None] = [None] * world_size()
    dist.all_gather_object(words, word)
    return next((one for one in words if one is not None), None)


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()


def patient_barrier() -> None:
    """Wait for every rank, for as long as what one of them prepares may take; a dead one is noticed."""
    group = host_group(_PREPARATION_S)
    if group is not None:
        dist.barrier(group)
        dist.destroy_process_group(group)


def _reachable(value: Tensor) -> Tensor:
    """A tensor where the group can send it from: NCCL knows the device alone."""
    if value.device.type == "cpu" and dist.get_backend() == "nccl":
        return value.to(torch.device("cuda", torch.cuda.current_device()))
    return value


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        return gather(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        start = rank() * ctx.count
        return total[start : start + ctx.count]
