"""One process or many: torch.distributed from `--nproc N`, torchrun or Slurm."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from genmem.training.peers import WAY_OUT, LostPeer, naming_lost_peers

PATIENCE_S = 1800.0
"""Seconds a process waits for the others, unless a recipe says."""


@contextmanager
def process_group(device: torch.device, timeout: float = PATIENCE_S) -> Iterator[None]:
    """Join the process group that the environment announces (torchrun's variables), if it does.

    Args:
        device: Where tensors lie that are communicated.
        timeout: Seconds to wait for the other processes.

    Raises:
        LostPeer: Another process did not come; the message has its number.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Where every rank stood when NCCL gave up is written beside the traceback.
        os.environ.setdefault("TORCH_NCCL_TRACE_BUFFER_SIZE", "2000")
        os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    patience = timedelta(seconds=timeout)
    store, rank, world = next(rendezvous("env://", timeout=patience))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=patience,
    )
    with naming_lost_peers(PrefixStore("peers", store), timeout):
        yield
        # Not after an error: leaving the group would make the peers fail before the cause is told.
        # Leaving while a peer still works has aborted processes at exit, so all leave together.
        dist.barrier()
    dist.destroy_process_group()


def spawn(target: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Run `target(*arguments)` in that many processes of one machine.

    Raises:
        ValueError: Fewer than one process; or what the first process to fail raised, with its rank.
    """
    if processes < 1:
        raise ValueError(f"--nproc must be 1 or more, got {processes}")
    threads = max(1, torch.get_num_threads() // processes)
    # When one process fails the others lose their peer and fail too; the first to say so is the cause.
    failures = get_context("spawn").SimpleQueue()
    settings = (target, arguments, processes, _free_port(), threads, failures)
    context = start_processes(  # type: ignore[no-untyped-call]
        _enter, settings, nprocs=processes, join=False
    )
    dead: tuple[int, str] | None = None
    try:
        with _signals_left_to(context.processes):
            dead = _first_dead(context.processes)
            while not context.join():
                pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise ValueError(_cause(dead, failures) or f"process {error.error_index}: {error}") from error


def _first_dead(processes: list[Any]) -> tuple[int, str] | None:
    """Rank and signal of a process that a signal ended, if that is how the first one ended."""
    ready = wait([process.sentinel for process in processes])
    for rank, process in enumerate(processes):
        if process.sentinel in ready:
            process.join(1.0)
            if process.exitcode is not None and process.exitcode < 0:
                return rank, signal.Signals(-process.exitcode).name
    return None


def _cause(dead: tuple[int, str] | None, failures: Any) -> str | None:
    """What the first process to fail said; of one that could not say anything, what ended it."""
    said: dict[int, str] = {}
    while not failures.empty():
        rank, text = failures.get()
        said[rank] = text
    if dead is not None and dead[0] not in said:
        memory = " (the system does that where memory runs out)" if dead[1] == "SIGKILL" else ""
        return f"process {dead[0]} was ended by {dead[1]}{memory}{WAY_OUT}"
    return next((f"process {rank}: {text}" for rank, text in said.items()), None)


@contextmanager
def _signals_left_to(processes: list[Any]) -> Iterator[None]:
    """Ctrl-C reaches every process by itself; SIGTERM, sent to this one alone, is passed on."""

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, number)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def _enter(
    rank: int,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    port: int,
    threads: int,
    failures: Any,
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(threads)
    try:
        target(*arguments)
    except Exception as error:
        named = (
            str(error) if isinstance(error, (ValueError, LostPeer)) else f"{type(error).__name__}: {error}"
        )
        failures.put((rank, named))
        raise


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
