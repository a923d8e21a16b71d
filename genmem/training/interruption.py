"""Ctrl-C and SIGTERM: finish the step, save, stop. A second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from genmem import collectives


class Interruption:
    """Whether the run has been asked to stop."""

    def __init__(self) -> None:
        """Not yet asked."""
        self.asked = False

    def on_any_rank(self, device: torch.device) -> bool:
        """Whether any process was asked; every rank gets the same answer. Synchronises."""
        return bool(collectives.any_rank(torch.tensor(self.asked, device=device)))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def watched() -> Iterator[Interruption]:
    """Turn the first signal into a flag while the block runs."""
    interruption = Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interruption._handle) for number in numbers]
    try:
        yield interruption
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
