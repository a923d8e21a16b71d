"""What the steps since the last line of the log have in common: means, rate, how many were skipped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from genmem import collectives

_KEPT = ""
"""In place of a name: 1 for each step that was kept."""


class Line(NamedTuple):
    """A window as it is closed."""

    means: dict[str, float]
    """Over the steps that were kept; what was finite in none of them is left out."""

    rate: float
    """Images a second."""

    skipped: int
    """Steps."""


class Window:
    """Sums on the device since the last line of the log."""

    def __init__(self) -> None:
        """Open from now on."""
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._steps = self._timed = 0
        self._since = time.perf_counter()

    def add(self, values: Mapping[str, Tensor], kept: Tensor) -> None:
        """One step's scalars, and whether it was kept. The device is not waited for."""
        names = (_KEPT, *values)
        stacked = torch.stack([value.float() for value in (kept, *values.values())])
        counts = (stacked.isfinite() & kept).float()
        both = torch.stack([stacked.where(counts > 0, 0.0), counts])
        self._sums[names] = self._sums[names] + both if names in self._sums else both
        self._steps += 1
        self._timed += 1

    def restart_clock(self) -> None:
        """Do not count the time since the last line, or the steps."""
        self._timed = 0
        self._since = time.perf_counter()

    def close(self, batch: int) -> Line:
        """Means over the steps since the last line and over ranks; the one synchronisation."""
        names = [name for step in self._sums for name in step]
        sums, counts = collectives.add(torch.cat([*self._sums.values()], dim=1)).tolist()
        total, count = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for name, one, number in zip(names, sums, counts, strict=True):
            total[name] += one
            count[name] += number
        skipped = self._steps - round(total.pop(_KEPT) / collectives.world_size())
        means = {name: total[name] / count[name] for name in sorted(total) if count[name]}
        rate = self._timed * batch / (time.perf_counter() - self._since)
        self._reset()
        return Line(means, rate, skipped)
