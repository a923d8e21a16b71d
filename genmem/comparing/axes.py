"""Scales and ticks of a chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

MOST = 7
"""Ticks on one axis."""


@attrs.frozen
class Scale:
    """From numbers to places on the paper."""

    low: float
    high: float
    start: float
    """Where `low` lies, in units of the drawing."""

    stop: float
    logarithmic: bool

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, stop: float, *, logarithmic: bool, zero: bool = False
    ) -> Scale:
        """A scale that holds all values with some room; from 0 where asked.

        Raises:
            ValueError: No value, or a logarithm of one that has none.
        """
        found = list(values)
        low, high = min(found), max(found)
        if logarithmic:
            if low <= 0:
                raise ValueError(f"a value of {low} has no logarithm")
            room = max((high / low) ** 0.04, 1.01)
            return cls(low / room, high * room, start, stop, True)
        low = min(low, 0.0) if zero else low
        room = 0.05 * (high - low or abs(high) or 1.0)
        return cls(low if zero and low == 0 else low - room, high + room, start, stop, False)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = (self._of(value) - self._of(self.low)) / (self._of(self.high) - self._of(self.low))
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round numbers inside."""
        found = _decades(self.low, self.high) if self.logarithmic else _steps(self.low, self.high)
        return [value for value in found if self.low <= value <= self.high]

    def _of(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten, fewer where there are many, linear steps where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) <= MOST:
            return inside if len(inside) > 2 else _steps(low, high)
    return inside[:: math.ceil(len(inside) / MOST)]


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / (MOST - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def spread_out(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved until none is nearer than `gap` to the next; they keep their order."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    found = [places[number] for number in order]
    for _ in range(200):
        moved = False
        for left in range(len(found) - 1):
            missing = gap - (found[left + 1] - found[left])
            if missing > 1e-6:
                found[left] -= missing / 2
                found[left + 1] += missing / 2
                moved = True
        found = [min(max(place, low), high) for place in found]
        if not moved:
            break
    placed = dict(zip(order, found, strict=True))
    return [placed[number] for number in range(len(places))]
