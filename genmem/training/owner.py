"""One run folder, one run: the first process holds its lock, and speaks for all."""

from __future__ import annotations

from collections.abc import Callable

from filelock import FileLock, Timeout

from genmem import collectives
from genmem.training.folder import RunFolder


def on_lead(act: Callable[[], None]) -> None:
    """Act on the first process; where it is refused, every process says so, and none waits. Collective.

    Raises:
        ValueError, OSError: What the first process was refused.
    """
    fault: Exception | None = None
    if collectives.rank() == 0:
        try:
            act()
        except (ValueError, OSError) as error:
            fault = error
    words = collectives.first_word(None if fault is None else str(fault))
    if words is not None:
        raise fault or ValueError(words)


class SoleOwner:
    """Holds the run folder's lock on rank 0; a second run on the folder is refused."""

    def __init__(self, folder: RunFolder) -> None:
        """Not held yet."""
        self._folder = folder
        self._lock: FileLock | None = None

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            ValueError: Another process has it.
        """
        on_lead(self._acquire)

    def _acquire(self) -> None:
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._folder.lock)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another process is training in {self._folder.path}; give another folder with --out"
            ) from None

    def __exit__(self, *error: object) -> None:
        """Give it back."""
        if self._lock is not None:
            self._lock.release()
