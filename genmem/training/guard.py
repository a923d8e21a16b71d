"""Watches for steps that had to be skipped, one step late, so that the device never waits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

PATIENCE = 20
"""Skipped steps in a row after which a run stops."""


class Diverged(ArithmeticError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class Guard:
    """Counts skipped steps and names the samples in them."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` takes a line for the user."""
        self.skipped = 0
        self.in_a_row = 0
        self._report = report
        self._pending: tuple[int, Tensor, Tensor] | None = None

    def watch(self, images_seen: int, kept: Tensor, index_B: Tensor) -> None:
        """Read the previous step's flag; hold this one's until the next call."""
        self.settle()
        self._pending = (images_seen, kept, index_B)

    def settle(self) -> None:
        """Read the flag that is held.

        Raises:
            Diverged: After `PATIENCE` skipped steps in a row.
        """
        if self._pending is None:
            return
        images_seen, kept, index_B = self._pending
        self._pending = None
        if bool(kept):
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        numbers = index_B.tolist()
        shown = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
        self._report(f"step skipped at {images_seen:,} images: loss or gradient not finite (samples {shown})")
        if self.in_a_row >= PATIENCE:
            raise Diverged(
                f"{PATIENCE} steps in a row had a loss or gradient that is not finite, the last at "
                f"{images_seen:,} images; lower optimizer.lr, set optimizer.clip, or check the data"
            )
