"""A set of pictures, read by number and never all at once.

Shapes: B pictures asked for, H W C picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from genmem.pictures import check_pictures

CHUNK = 256
"""Pictures in memory at once."""

_FIT_BYTES = 1 << 30


class PictureSet(Protocol):
    """Pictures 0 … N - 1, all of one shape."""

    @property
    def name(self) -> str:
        """Where it is, as somebody named it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, C of every picture."""

    def __len__(self) -> int:
        """N."""

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C).

        Raises:
            ValueError: A picture that cannot be read, or is unlike the others; it is named.
        """


class ArrayPictures:
    """Pictures in memory."""

    def __init__(self, pictures_BHWC: np.ndarray, name: str = "pictures") -> None:
        """Refuses what is not uint8 (B, H, W, C).

        Raises:
            TypeError, ValueError: As `check_pictures`.
        """
        check_pictures(pictures_BHWC, name)
        self.name, self._pictures_BHWC = name, pictures_BHWC

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, C."""
        height, width, channels = self._pictures_BHWC.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self._pictures_BHWC)

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C)."""
        found: np.ndarray = self._pictures_BHWC[numbers_B]
        return found


class DrawnPictures:
    """Pictures that are made when they are read: noise, a Gaussian's, what a decode gives."""

    def __init__(
        self, name: str, shape: tuple[int, int, int], num: int, draw: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """`draw` makes uint8 (B, H, W, C) from numbers (B,), the same ones each time."""
        self.name, self.shape, self.read = name, shape, draw
        self._num = num

    def __len__(self) -> int:
        return self._num


def as_set(pictures: np.ndarray | PictureSet) -> PictureSet:
    """Pictures in memory as a set; a set as it is.

    Raises:
        TypeError, ValueError: As `check_pictures`.
    """
    return ArrayPictures(pictures) if isinstance(pictures, np.ndarray) else pictures


def iterate(pictures: PictureSet, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """First number and pictures, at most `CHUNK` at a time; each chunk is uint8 of the set's shape.

    Raises:
        TypeError, ValueError: Pictures that are not.
    """
    for first in range(start, stop, CHUNK):
        numbers = np.arange(first, min(first + CHUNK, stop))
        found = pictures.read(numbers)
        check_pictures(found, pictures.name)
        if found.shape != (len(numbers), *pictures.shape):
            raise ValueError(f"{pictures.name}: pictures of {found.shape}, expected {pictures.shape} each")
        yield first, found


class ColouredPictures:
    """Grey pictures as three equal colours."""

    def __init__(self, pictures: PictureSet) -> None:
        """Read when they are asked for."""
        self.name, self._pictures = pictures.name, pictures
        self.shape = (*pictures.shape[:2], 3)

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3)."""
        return np.repeat(self._pictures.read(numbers_B), 3, axis=3)


def spread(pictures: PictureSet, at_most: int = _FIT_BYTES) -> np.ndarray:
    """uint8 (B, H, W, C) to fit an encoder on: all, or evenly spaced ones if they are many bytes."""
    count = min(len(pictures), max(2, at_most // int(np.prod(pictures.shape))))
    return pictures.read(np.linspace(0, len(pictures) - 1, count).round().astype(np.int64))


class PixelHash:
    """A hash of every picture and its number that processes can add up, each over its share."""

    def __init__(self) -> None:
        """Of no pictures."""
        self.words_8 = np.zeros(8, np.int64)

    def update(self, start: int, pictures_BHWC: np.ndarray) -> None:
        """Take in pictures start, start + 1, …"""
        for number, picture in enumerate(pictures_BHWC, start):
            digest = hashlib.sha256(f"{number} {picture.shape} ".encode() + picture.tobytes()).digest()
            self.words_8 += np.frombuffer(digest, ">u4")

    def hexdigest(self) -> str:
        """64 digits: the sums modulo 2³², hashed."""
        return hashlib.sha256((self.words_8 % (1 << 32)).astype(">u4").tobytes()).hexdigest()
