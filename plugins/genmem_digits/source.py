"""The UCI handwritten digits as a source of pictures."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from genmem.contracts import Split

FILE = "digits.npz"
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pictures' bytes followed by the labels'."""

HELD_OUT = 360
_DARKEST = 16


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures (1797, 8, 8) uint8 with values 0 … 16 and labels (1797,) uint8, in UCI's order.

    Raises:
        ValueError: The file was changed.
    """
    with as_file(files("genmem_digits") / FILE) as path, np.load(path, allow_pickle=False) as file:
        pictures, labels = file["pictures"], file["labels"]
    found = hashlib.sha256(pictures.tobytes() + labels.tobytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{FILE}: sha256 of its arrays is {found}, expected {SHA256}; reinstall the package")
    return pictures, labels


def hold_out(pictures: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: which pictures are held out.

    The pictures are lined up class by class, within a class by the sha256 of their 64 bytes. Place
    j of that line is held out where j · 360 mod 1797 < 360: 360 in all, the share of every class
    within one picture of its due. The hash stands for chance: in the file the digits of one writer
    follow each other, and every fifth of them would be more like the rest than a fair draw is.
    """
    hashes = np.array([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures])
    held = np.zeros(len(labels), bool)
    held[np.lexsort((hashes, labels))] = np.arange(len(labels)) * HELD_OUT % len(labels) < HELD_OUT
    return held


class Digits:
    """Grey pictures of 8 × 8; ink is bright."""

    def __init__(self, classes: tuple[int, ...] = tuple(range(10))) -> None:
        """Read the pictures and split them; keep these digits. Label i is digit classes[i]."""
        pictures, labels = read_digits()
        # 16 shades become 0 … 255; halves (8 · 255 / 16) go to the even neighbour.
        grey = np.rint(pictures * (255 / _DARKEST)).astype(np.uint8)[..., None]
        held, kept = hold_out(pictures, labels), np.isin(labels, classes)
        places = np.searchsorted(classes, labels)
        self.class_names = tuple(map(str, classes))
        self._splits = {
            "train": (grey[kept & ~held], places[kept & ~held]),
            "test": (grey[kept & held], places[kept & held]),
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the pictures come from, under which licence, and how they were split."""
        return {
            "name": "Optical Recognition of Handwritten Digits, test set",
            "citation": "E. Alpaydin, C. Kaynak (1998). UCI Machine Learning Repository. doi:10.24432/C50P49",
            "licence": "CC BY 4.0",
            "sha256": SHA256,
            "split": "class by class in order of sha256, place j is held out where j * 360 mod 1797 < 360",
        }

    def count(self, split: Split) -> int:
        """1,437 to train on and 360 held out, of all ten digits."""
        return len(self._splits[split][0])

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (8, 8, 1) and the place of its digit among those kept."""
        pictures, labels = self._splits[split]
        return pictures[number], int(labels[number])
