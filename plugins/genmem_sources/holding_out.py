"""Which pictures are held out where nobody has said so: a fixed share of every class.

Shapes: N pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def count_held(held_out: int | float, total: int) -> int:
    """How many of `total` a number or a share means.

    Raises:
        ValueError: As many as there are, or more.
    """
    count = round(held_out * total) if isinstance(held_out, float) else held_out
    if not 0 <= count < max(total, 1):
        raise ValueError(
            f"held_out = {held_out} means {count} of {total} pictures; some must be left to train on"
        )
    return count


def hold_out(names: Sequence[str], label_N: np.ndarray, count: int) -> np.ndarray:
    """(N,) bool: `count` of them, of every class its share to within one picture.

    The pictures are lined up class by class, within a class by the sha256 of their names; place j of
    that line is held out where j · count mod N < count. The order of the files plays no part.
    """
    total = len(names)
    held = np.zeros(total, bool)
    if total:
        hashes = np.array(
            [hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest() for name in names]
        )
        held[np.lexsort((hashes, label_N))] = np.arange(total) * count % total < count
    return held
