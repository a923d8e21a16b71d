"""What a table of runs says: spreads over seeds, images to a mark, whether a curve has levelled off.

Curves are (images, score) pairs, images growing; a score is above 0, and lower is better. Between
marks the logarithm of the score is linear in the logarithm of the images. All in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, stdev

import attrs

Curve = Sequence[tuple[int, float]]

LEVEL = 0.05
"""A curve has levelled off if its last third brought at most this share of all that it fell."""

MARKS = 12
"""Fewer marks than this make interpolation coarse."""


@attrs.frozen
class Spread:
    """Mean and standard deviation (n - 1 in the denominator) over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """None for one value, which has no spread."""
        return stdev(self.values) if len(self.values) > 1 else None


def standard_error(a: Spread, b: Spread) -> float | None:
    """Of the difference of two means: sqrt(sd_a² / n_a + sd_b² / n_b); None where a spread is unknown."""
    if a.sd is None or b.sd is None:
        return None
    return math.sqrt(a.sd**2 / len(a.values) + b.sd**2 / len(b.values))


def differs(a: Spread, b: Spread) -> bool | None:
    """Whether two means are further apart than twice that; None where a spread is unknown."""
    error = standard_error(a, b)
    return None if error is None else abs(a.mean - b.mean) > 2 * error


def mean_curve(curves: Iterable[Curve]) -> list[tuple[int, float]]:
    """The mean over runs at every mark that all of them have."""
    tables = [dict(curve) for curve in curves]
    shared = sorted(set(tables[0]).intersection(*tables[1:])) if tables else []
    return [(images, fmean(table[images] for table in tables)) for images in shared]


def images_to(curve: Curve, score: float) -> float | None:
    """Images at which a curve first comes down to a score; None where it never does.

    Where the first mark is there already, its images: an upper bound.

    Raises:
        ValueError: A score that has no logarithm.
    """
    _check(curve, score)
    for number, (images, found) in enumerate(curve):
        if found > score:
            continue
        if number == 0:
            return float(images)
        (before, above) = curve[number - 1]
        share = math.log(above / score) / math.log(above / found)
        return float(before * (images / before) ** share)
    return None


def score_at(curve: Curve, images: float) -> float:
    """The score after so many images, between two marks.

    Raises:
        ValueError: Outside the marks, or a score that has no logarithm.
    """
    _check(curve, 1.0)
    for (before, first), (after, second) in pairwise(curve):
        if before <= images <= after:
            share = math.log(images / before) / math.log(after / before)
            return float(first * (second / first) ** share)
    raise ValueError(f"{images:,.0f} images are outside the marks of the curve")


def late_share(curve: Curve) -> float | None:
    """Of all that a curve fell from its first mark to its last, in log score, the share of the last
    third of its images; None with fewer than three marks before that third's end, or no fall."""
    if len(curve) < 3 or curve[0][0] >= curve[-1][0] * 2 / 3:
        return None
    (_, first), (images, last) = curve[0], curve[-1]
    whole = math.log(first / last)
    late = math.log(score_at(curve, images * 2 / 3) / last)
    return late / whole if whole > 0 else None


def _check(curve: Curve, score: float) -> None:
    wrong = next((value for value in (score, *(value for _, value in curve)) if not value > 0), None)
    if wrong is not None:
        raise ValueError(f"a score of {wrong} has no logarithm; compare by another score (sweep.score)")
