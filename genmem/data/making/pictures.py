"""Pictures of a source in batches, read ahead by threads while the last batch is encoded.

Shapes: B pictures, H W C picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch

from genmem.contracts import Source, Split, UnreadablePicture
from genmem.data.errors import DataError

_TRIED = 100
"""Pictures looked at for a first readable one."""


class Read(NamedTuple):
    """The readable ones among consecutive pictures."""

    pictures_BHWC: np.ndarray
    label_B: np.ndarray
    kept: list[int]
    """Their places among those asked for."""

    skipped: list[str]
    """What was wrong with the others."""


class PictureReader:
    """Reads pictures that must all be alike."""

    def __init__(self, source: Source, damage: Literal["stop", "skip"]) -> None:
        """Find the size of pictures from the first readable one; `damage` says what others do.

        Raises:
            UnreadablePicture: The first one, where damage is to stop.
            DataError: No picture at all, or a first one that is none.
        """
        self.source, self._damage = source, damage
        self.shape = self._find_shape()

    def read(self, split: Split, numbers: Sequence[int], size: int) -> Iterator[Read]:
        """Batches of up to `size` of these pictures, in order.

        Raises:
            DataError: One of another shape than the first.
            UnreadablePicture: One that cannot be read, where damage is to stop.
        """
        chunks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        threads = torch.get_num_threads()
        if threads == 1:
            yield from (self._gather(self._try(split, number) for number in chunk) for chunk in chunks)
            return
        with ThreadPoolExecutor(threads, "pictures") as pool:
            ahead: list[list[Future[_Tried]]] = []
            for i in range(len(chunks)):
                for chunk in chunks[i + len(ahead) : i + 2]:
                    ahead.append([pool.submit(self._try, split, number) for number in chunk])
                yield self._gather(future.result() for future in ahead.pop(0))

    def _try(self, split: Split, number: int) -> _Tried:
        try:
            picture, label = self.source.picture(split, number)
        except UnreadablePicture as error:
            if self._damage == "stop":
                raise
            return _Tried(None, -1, str(error))
        if _shape_of(picture) != self.shape:
            raise DataError(
                f"picture {number} of {split} is {picture.shape}, the first is {self.shape}; a set has "
                "pictures of one size (a source's resolution makes them so)"
            )
        return _Tried(picture, label, "")

    def _gather(self, tried: Iterable[_Tried]) -> Read:
        found = list(tried)
        kept = [i for i, one in enumerate(found) if one.picture is not None]
        skipped = [one.problem for one in found if one.picture is None]
        pictures = [one.picture for one in found if one.picture is not None]
        stacked = np.stack(pictures) if pictures else np.zeros((0, *self.shape), np.uint8)
        return Read(stacked, np.array([found[i].label for i in kept], np.int64), kept, skipped)

    def _find_shape(self) -> tuple[int, int, int]:
        for number in range(min(self.source.count("train"), _TRIED)):
            try:
                return _shape_of(self.source.picture("train", number)[0])
            except UnreadablePicture:
                if self._damage == "stop":
                    raise
        raise DataError("the source has no readable training picture (data.damage, data.source)")


class _Tried(NamedTuple):
    picture: np.ndarray | None
    label: int
    problem: str


def _shape_of(picture: np.ndarray) -> tuple[int, int, int]:
    if picture.dtype != np.uint8 or picture.ndim != 3:
        raise DataError(f"a picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, C)")
    height, width, channels = picture.shape
    return height, width, channels
