"""Fair timing: what is compared runs in turn, in one process, for several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """Seconds of one form over all rounds."""

    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The fastest round: the one least disturbed by whatever else the machine does."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """(median - least) / least: how much the machine disturbed."""
        return (statistics.median(self.seconds) - self.least) / self.least


def interleave(
    forms: Mapping[str, Callable[[], object]],
    rounds: int,
    settle: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each form once a round, after one round that does not count.

    The order turns round by round, so that none always follows the same other.

    Args:
        forms: What to run, by name.
        rounds: Rounds that count.
        settle: Waits for the device; called before the clock is read.
        clock: Seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(-1, rounds):
        for name in turned(list(forms), number):
            settle()
            start = clock()
            forms[name]()
            settle()
            if number >= 0:
                seconds[name].append(clock() - start)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster: the ratio of the minima."""
    return slow.least / fast.least


def turned(names: Sequence[str], number: int) -> list[str]:
    """The names, beginning `number` places on."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
