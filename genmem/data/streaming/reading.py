"""What is read in one go: fields of a sample that lie close together in its tar.

Shapes: B samples asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from genmem.data.format.inspection import record_size
from genmem.data.format.manifest import Form

_ALIGNED = 16
_GAP = 4096


class Stretch(NamedTuple):
    """A run of bytes that is read of every sample, and the fields in it."""

    offset_B: np.ndarray
    """int64: where it begins in each sample's tar."""

    size: int
    place: Mapping[str, int]
    """Where each field's values begin in it."""

    def reserve(self) -> np.ndarray:
        """uint8 (B, row): memory for it; a row is a little longer where that keeps values aligned."""
        row = self.size if len(self.place) == 1 else -(-self.size // _ALIGNED) * _ALIGNED
        return np.empty((len(self.offset_B), row), np.uint8)

    def values(self, raw: np.ndarray, field: str, form: Form) -> np.ndarray:
        """(B, …): a field out of what was read; a view of it, where that is possible."""
        start = self.place[field]
        part = raw[:, start : start + record_size(form)]
        if start % np.dtype(form.dtype).itemsize:
            part = np.ascontiguousarray(part)
        return part.view(form.dtype).reshape(len(raw), *form.shape)

    def lost(self, found: int, forms: Mapping[str, Form]) -> str:
        """The first field that is not whole where only `found` bytes could be read."""
        return next(f for f, place in self.place.items() if place + record_size(forms[f]) > found)


def plan_stretches(offset_B: Mapping[str, np.ndarray], forms: Mapping[str, Form]) -> list[Stretch]:
    """Join fields that have the same distance, and little between them, in every sample.

    A system call costs as much as copying a few thousand bytes that nobody wants.
    """
    stretches: list[Stretch] = []
    for field in sorted(offset_B, key=lambda name: int(offset_B[name][0]) if len(offset_B[name]) else 0):
        size = record_size(forms[field])
        if stretches:
            last = stretches[-1]
            distance_B = offset_B[field] - last.offset_B
            distance = int(distance_B[0]) if len(distance_B) else 0
            if last.size <= distance <= last.size + _GAP and (distance_B == distance).all():
                place = {**last.place, field: distance}
                stretches[-1] = Stretch(last.offset_B, distance + size, place)
                continue
        stretches.append(Stretch(offset_B[field], size, {field: 0}))
    return stretches
