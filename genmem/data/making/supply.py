"""What a source gives, batch by batch: pictures, samples encoded before, or both side by side.

Shapes: B samples at once, H W C picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from genmem.contracts import LatentSpec, Source, Split, StoredSource
from genmem.data.errors import DataError
from genmem.data.making.pictures import PictureReader, Read
from genmem.recipe.data_table import DataTable


class Chunk(NamedTuple):
    """Up to `data.encode_batch` samples in a row; those that could not be read are left out."""

    pictures_BHWC: np.ndarray | None
    """None where nobody looks at pictures, or there are none."""

    stored: tuple[Mapping[str, np.ndarray], ...]
    """{"x": …, feature of the source: …} of each view; empty where pictures are to be encoded."""

    label_B: np.ndarray
    skipped: list[str]
    """What was wrong with pictures that were left out."""


class Supply:
    """A source, and which of its pictures and features are wanted."""

    def __init__(self, data: DataTable, source: Source | StoredSource) -> None:
        """Look at the first picture, where pictures are wanted.

        Raises:
            DataError: No training pictures, a first one that is none, or a source that does not have
                what encoders ask for.
        """
        self._data, self.source, self.views = data, source, data.views or 1
        self._stored = source if isinstance(source, StoredSource) else None
        _refuse_lack(data, source)
        encodes = any(not seat.config.given for seat in data.encoder.values())
        self._reader = None
        if isinstance(source, Source) and (self._stored is None or encodes):
            self._reader = PictureReader(source, data.damage)
        self._wanted = [name for seat in data.encoder.values() for name in seat.config.given.values()]

    @property
    def spec(self) -> LatentSpec | None:
        """How x follows from what is stored; None where pictures are to be encoded."""
        return None if self._stored is None else self._stored.spec

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """H, W, C of the pictures, or of those that were encoded."""
        if self._stored is not None:
            return self._stored.picture_shape
        assert self._reader is not None
        return self._reader.shape

    def chunks(self, split: Split, numbers: range) -> Iterator[Chunk]:
        """Consecutive samples.

        Raises:
            DataError: Pictures that are not alike; a source that lacks the view asked for.
            ValueError: Samples of the source that are damaged.
        """
        size = self._data.encode_batch
        starts = range(numbers.start, numbers.stop, size)
        reads: Iterator[Read | None] = iter([None] * len(starts))
        if self._reader is not None:
            reads = self._reader.read(split, numbers, size)
        for start, read in zip(starts, reads, strict=True):
            yield self._chunk(split, start, min(start + size, numbers.stop), read)

    def pictures(self, numbers: list[int]) -> np.ndarray:
        """These training pictures (B, H, W, C), without those that cannot be read.

        Raises:
            DataError: The source has none.
        """
        if self._reader is None:
            raise DataError("encoders learn from pictures, and this source has none")
        reads = self._reader.read("train", numbers, self._data.encode_batch)
        return np.concatenate([read.pictures_BHWC for read in reads])

    def _chunk(self, split: Split, start: int, stop: int, read: Read | None) -> Chunk:
        if self._stored is None:
            assert read is not None
            return Chunk(read.pictures_BHWC, (), read.label_B, read.skipped)
        views, label_B = self._stored.stored(split, start, stop, self._wanted)
        if len(views) < self.views:
            raise DataError(
                f"data.views = {self.views}, but the source has plain views alone; leave views out"
            )
        if read is None:
            return Chunk(None, views, label_B, [])
        kept = tuple({field: values[read.kept] for field, values in view.items()} for view in views)
        return Chunk(read.pictures_BHWC, kept, label_B[read.kept], read.skipped)


def _refuse_lack(data: DataTable, source: Source | StoredSource) -> None:
    if source.count("train") == 0:
        raise DataError("data.source: no training pictures")
    for name, seat in data.encoder.items():
        if seat.config.given and not isinstance(source, StoredSource):
            raise DataError(f"data.encoder.{name}: came with latents, and this source gives pictures")
        if not seat.config.given and not isinstance(source, Source):
            raise DataError(f"data.encoder.{name}: encodes pictures, and this source has latents alone")
