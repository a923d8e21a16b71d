"""Ctrl-C, SIGTERM, a time limit, a reader that went away: finish the step, save, stop.

A second Ctrl-C stops at once.

One wish may come as several signals: a scheduler sends SIGTERM to every process, and a launcher that
gets it passes it on. So SIGTERM never stops at once, and Ctrl-C only some time after the first signal.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from genmem import collectives
from genmem.training.flag import Flag

_SAME_WISH_S = 1.0
"""Signals that come so soon after the first say the same."""


class Interruption:
    """Whether the run has been asked to stop."""

    def __init__(self, deadline: float | None = None, deserted: Callable[[], bool] = lambda: False) -> None:
        """Not yet asked.

        Args:
            deadline: A moment of `time.monotonic()`, seconds; the time is over then.
            deserted: Whether what read the run's output has ended.
        """
        self._signalled_at: float | None = None
        self._told: Flag | None = None
        self._deadline, self._deserted = deadline, deserted

    @property
    def asked(self) -> bool:
        """A signal came, the time is over, or nobody reads any more."""
        return self._signalled_at is not None or self.timed_out or self._deserted()

    @property
    def timed_out(self) -> bool:
        """The time is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def agreed_at_once(self, device: torch.device) -> bool:
        """Whether any process was asked by now, before the first step. Collective."""
        return Flag(collectives.any_rank(torch.full((), self.asked, device=device))).read()

    def agreed(self, device: torch.device) -> bool:
        """Whether any process was asked, told to all at the same step. Collective, once a step.

        With several processes the answer is that of the step before, so that the device never waits.
        """
        if collectives.world_size() == 1:
            return self.asked
        before = self._told
        self._told = Flag(collectives.any_rank(torch.full((), self.asked, device=device)))
        return before is not None and before.read()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
        elif number == signal.SIGINT and now > self._signalled_at + _SAME_WISH_S:
            raise KeyboardInterrupt


@contextmanager
def watched(
    deadline: float | None = None, deserted: Callable[[], bool] = lambda: False
) -> Iterator[Interruption]:
    """Turn the first signal, or what else asks an `Interruption`, into a flag while the block runs."""
    interruption = Interruption(deadline, deserted)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interruption._handle) for number in numbers]
    try:
        yield interruption
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
