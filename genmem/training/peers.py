"""A process that waits for another one says which: a hang or a death has a name."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import Store

_GRACE_S = 5.0
"""Others that wait as well may reach the end of their patience so much later."""

_SIGNS = ("gloo", "NCCL", "Connection closed", "Timed out")
"""In the errors of collectives, which are plain RuntimeErrors on the CPU."""

WAY_OUT = "; the last checkpoint is as it was, and the same command goes on from it"


class LostPeer(ConnectionError):
    """Other processes of the run did not come to where this one waited. The message names them."""


@contextmanager
def naming_lost_peers(store: Store, timeout: float) -> Iterator[None]:
    """Turn the failure of a collective into `LostPeer`.

    Every process whose collective fails leaves a mark in `store`, which it must share with all; the
    ones without a mark are those that hang or are dead.

    Args:
        store: Of the whole run.
        timeout: Seconds a collective waits, for the message.

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
        raise LostPeer(f"{_explain(lost, timeout)}{WAY_OUT} ({str(error).splitlines()[0]})") from error


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
