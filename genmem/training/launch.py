"""One process or many: torch.distributed from `--nproc N`, torchrun or Slurm."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import start_processes

from genmem import slurm
from genmem.host import is_strict
from genmem.training.peers import WAY_OUT, naming_lost_peers, remember_collectives

PATIENCE_S = 1800.0
"""Seconds a process waits for the others, unless a recipe says."""

NCCL_GRACE = timedelta(seconds=60)
"""So much longer NCCL itself waits."""

_PLAIN = (ValueError, OSError, ArithmeticError)
"""Errors whose message says all that a user needs."""

_LAST_WORDS_S = 10.0
"""What the processes of `--nproc` have left to end by themselves when one has failed."""


@contextmanager
def process_group(
    device: torch.device, timeout: float = PATIENCE_S, record: Path | None = None
) -> Iterator[None]:
    """Join the process group that the environment announces (torchrun's variables, or Slurm's), if it does.

    Args:
        device: Where tensors lie that are communicated.
        timeout: Seconds to wait for the other processes.
        record: A folder for what each process did last, should one of them not come.

    Raises:
        LostPeer: Another process did not come; the message has its number.
        ValueError: Slurm's variables cannot be read; the message names the one.
    """
    os.environ.update(slurm.variables(os.environ))
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    remember_collectives()
    patience = timedelta(seconds=timeout)
    store, rank, world = next(rendezvous("env://", timeout=patience))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world,
        # NCCL ends the process, without a word of ours: the host looks first.
        timeout=patience + NCCL_GRACE if device.type == "cuda" else patience,
    )
    with _recorded(), naming_lost_peers(PrefixStore("peers", store), timeout, record):
        yield
        # Not after an error: leaving the group would make the peers fail before the cause is told.
        # Leaving while a peer still works has aborted processes at exit, so all leave together.
        dist.barrier()
    dist.destroy_process_group()


@contextmanager
def _recorded() -> Iterator[None]:
    """What ends a process of torchrun's stands in the report that torchrun prints last."""
    try:
        yield
    except Exception as error:
        if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            text = _words_of(error) if isinstance(error, _PLAIN) else traceback.format_exc()
            more = {"py_callstack": text, "timestamp": str(int(time.time()))}
            Path(file).write_text(json.dumps({"message": {"message": text, "extraInfo": more}}))
        raise


def _words_of(error: Exception) -> str:
    return str(error) if isinstance(error, _PLAIN) else f"{type(error).__name__}: {error}"


def spawn(target: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Run `target(*arguments)` in that many processes of one machine.

    Raises:
        ValueError: Fewer than one process; Slurm has started several already; or what the first process to
            fail said, with its rank.
    """
    if processes < 1:
        raise ValueError(f"--nproc must be 1 or more, got {processes}")
    if others := slurm.variables(os.environ).get("WORLD_SIZE"):
        raise ValueError(
            f"--nproc {processes} in each of the {others} tasks of a Slurm step (SLURM_STEP_NUM_TASKS): "
            "srun has started the processes; leave --nproc out, or give the step one task (srun --ntasks=1)"
        )
    threads = max(1, torch.get_num_threads() // processes)
    # When one process fails the others lose their peer and fail too; the first to say so is the cause.
    failures = get_context("spawn").SimpleQueue()
    settings = (target, arguments, processes, _free_port(), threads, failures)
    started: list[Any] = start_processes(  # type: ignore[no-untyped-call]
        _enter, settings, nprocs=processes, join=False
    ).processes
    with _signals_left_to(started):
        first = _await(started)
    if first is not None:
        raise ValueError(_cause(first, started[first].exitcode, failures))


def _await(processes: list[Any]) -> int | None:
    """Wait for all; the rank of the first that failed, if one did. The others are ended then."""
    running = dict(enumerate(processes))
    while running:
        ready = wait([process.sentinel for process in running.values()])
        for rank, process in list(running.items()):
            if process.sentinel in ready:
                del running[rank]
                process.join()
                if process.exitcode != 0:
                    _end(running.values())
                    return rank
    return None


def _end(processes: Iterable[Any]) -> None:
    """Let processes that lost a peer say so, and end those that hang."""
    for process in processes:
        process.terminate()  # a training process takes this as a wish
    end = time.monotonic() + _LAST_WORDS_S
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()
        process.join()


def _cause(first: int, code: int, failures: Any) -> str:
    """What the first process to fail said; of one that could not say anything, what ended it."""
    said: dict[int, str] = {}
    while not failures.empty():
        rank, text = failures.get()
        said[rank] = text
    if code < 0 and first not in said:
        name = signal.Signals(-code).name
        memory = " (the system does that where memory runs out)" if name == "SIGKILL" else ""
        return f"process {first} was ended by {name}{memory}{WAY_OUT}"
    return next((f"process {rank}: {text}" for rank, text in said.items()), _silent(first, code))


def _silent(rank: int, code: int) -> str:
    return f"process {rank} ended with code {code} and said nothing{WAY_OUT}"


@contextmanager
def _signals_left_to(processes: list[Any]) -> Iterator[None]:
    """A signal, which may have come to this process alone, is passed on: twice is taken as once.

    A second Ctrl-C is not: it comes from a terminal, which sends it to every process.
    """
    passed: set[int] = set()

    def pass_on(number: int, frame: object) -> None:
        for process in processes if number not in passed else ():
            if process.is_alive():
                os.kill(process.pid, number)
        passed.add(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, pass_on) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


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
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the words are said whole
        failures.put((rank, f"interrupted without saving{WAY_OUT}"))
        sys.exit(1)
    except Exception as error:
        failures.put((rank, _words_of(error)))
        if not isinstance(error, _PLAIN) or is_strict():
            traceback.print_exc()
        sys.exit(1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
