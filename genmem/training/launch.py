"""One process or many: torch.distributed from `--nproc N`, torchrun or Slurm."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that the environment announces (torchrun's variables), if it does."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def spawn(target: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Run `target(*arguments)` in that many processes of one machine.

    Raises:
        ValueError: Fewer than one process.
        torch.multiprocessing.ProcessRaisedException: What a process raised, with its rank.
    """
    if processes < 1:
        raise ValueError(f"--nproc must be 1 or more, got {processes}")
    threads = max(1, torch.get_num_threads() // processes)
    start_processes(_enter, (target, arguments, processes, _free_port(), threads), nprocs=processes)


def _enter(
    rank: int,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    port: int,
    threads: int,
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(threads)
    target(*arguments)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
