"""One process or many: torch.distributed from `--nproc N`, torchrun or Slurm."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that the environment announces (torchrun's variables), if it does."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
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
    try:
        with _signals_left_to(context.processes):
            while not context.join():
                pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        rank, cause = (error.error_index, str(error)) if failures.empty() else failures.get()
        raise ValueError(f"process {rank}: {cause}") from error


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
        named = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        failures.put((rank, named))
        raise


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
