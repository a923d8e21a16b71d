"""Threads that work ahead of the steps: rows read before they are asked for, shards fetched before that."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What `make(step)` gives, made by threads for the steps that follow the one asked for."""

    def __init__(self, make: Callable[[int], T], workers: int) -> None:
        """`workers` threads, one step each; with 0, `make` is called when its result is asked for."""
        self._make, self._workers = make, workers
        self._pool = ThreadPoolExecutor(workers, "read-ahead") if workers else None
        self._ahead: dict[int, Future[T]] = {}

    def take(self, step: int) -> T:
        """The result for this step; an error in a thread is raised here."""
        if self._pool is None:
            return self._make(step)
        # What was made for another step (after a rollback, say) is of no use.
        wanted = range(step, step + self._workers + 1)
        self._ahead = {s: f for s, f in self._ahead.items() if s in wanted}
        for s in wanted:
            if s not in self._ahead:
                self._ahead[s] = self._pool.submit(self._make, s)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Forget what was made and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()


class Prefetch:
    """One thread that calls `fetch(step)` for every step up to `ahead` beyond the present one."""

    def __init__(self, fetch: Callable[[int], None], ahead: int) -> None:
        """Nothing is fetched before the first `advance`."""
        self._fetch, self._ahead = fetch, ahead
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._running: Future[None] | None = None
        self._present = self._next = 0
        self._closed = False

    def advance(self, step: int) -> None:
        """Say which step is the present one; what went wrong in the thread is raised here."""
        if step < self._present:
            self._next = step
        self._present = step
        if self._running is None or self._running.done():
            if self._running is not None:
                self._running.result()
            self._running = self._pool.submit(self._run)

    def close(self) -> None:
        """End the thread after the step it is at."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._closed and (step := max(self._next, self._present)) <= self._present + self._ahead:
            self._fetch(step)
            self._next = step + 1
