"""A process that waits for another one says which: a hang or a death has a name.

What every process did last is taken from torch's flight recorder, a ring of collectives in memory.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch._C import _distributed_c10d
from torch._C._distributed_c10d import Store

from genmem.data.files import write_text

_GRACE_S = 5.0
"""Others that wait as well may reach the end of their patience so much later."""

_SIGNS = ("gloo", "NCCL", "Connection closed", "Timed out")
"""In the errors of collectives, which are plain RuntimeErrors on the CPU."""

WAY_OUT = "; the last checkpoint is as it was, and the same command goes on from it"


class LostPeer(ConnectionError):
    """Other processes of the run did not come to where this one waited. The message names them."""


_REMEMBERED = "2000"
"""Collectives."""


def remember_collectives() -> None:
    """Turn the flight recorder on, unless the environment says otherwise; before the group is there."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", _REMEMBERED)


@contextmanager
def naming_lost_peers(store: Store, timeout: float, record: Path | None = None) -> Iterator[None]:
    """Turn the failure of a collective into `LostPeer`.

    Every process whose collective fails leaves a mark in `store`, which it must share with all; the
    ones without a mark are those that hang or are dead.

    Args:
        store: Of the whole run.
        timeout: Seconds a collective waits, for the message.
        record: A folder for this process's last collectives; its file is named in the message.

    Raises:
        LostPeer: A collective failed in this block.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        with _time_to_speak():
            lost = _unmarked(store, min(_GRACE_S, timeout))
            told = f"{_explain(lost, timeout)}{WAY_OUT}{_written(record)}"
        raise LostPeer(f"{told} ({str(error).splitlines()[0]})") from error


def _written(folder: Path | None) -> str:
    """Write what this process did last, and say where; nothing where torch or the disk cannot."""
    recorder = getattr(_distributed_c10d, "_dump_fr_trace_json", None)
    if folder is None or recorder is None:
        return ""
    try:
        record = json.loads(recorder())
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"process-{dist.get_rank()}.json", json.dumps(record, indent=1))
    except OSError:
        return ""
    return f"; the last collectives of each process are in {folder}"


@contextmanager
def _time_to_speak() -> Iterator[None]:
    """A launcher that ends all processes when one is dead waits until this one has said which."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unmarked(store: Store, seconds: float) -> list[int] | None:
    """Ranks that leave no mark within so many seconds; None where the store itself is gone."""
    world, rank = dist.get_world_size(), dist.get_rank()
    end = time.monotonic() + seconds
    try:
        store.set_timeout(timedelta(seconds=max(1.0, seconds)))
        store.set(f"waited/{rank}", "")
        lost = [other for other in range(world) if other != rank]
        while lost and time.monotonic() < end:
            lost = [other for other in lost if not store.check([f"waited/{other}"])]
            time.sleep(0.05)
    except RuntimeError:
        return None
    return lost


def _explain(lost: list[int] | None, timeout: float) -> str:
    if lost is None:
        return "process 0, through which all processes meet, is gone"
    if not lost:
        return (
            f"the processes lost each other, though all are there; they waited {timeout:g} s (train.timeout)"
        )
    who = f"process {lost[0]} is" if len(lost) == 1 else f"processes {', '.join(map(str, lost))} are"
    return f"{who} dead, or did not come within {timeout:g} s (train.timeout) to where the others wait"
