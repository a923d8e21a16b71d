"""Drawing the rows of a bank that does not hold every sample.

Each sample has a number from the seed alone; the smallest win. So a larger draw contains a smaller
one, and a half-size bank is a part of the whole.
Shapes: N samples of a part.
"""

from __future__ import annotations

import numpy as np
import torch

from genmem.draws import Draws

PART = 1 << 16


def choose_samples(count: int, seed: int, rows: int) -> np.ndarray:
    """Numbers (rows,) int64, ascending, of samples drawn uniformly.

    Raises:
        ValueError: More than there are.
    """
    if rows > count:
        raise ValueError(f"--rows {rows}, but there are {count} samples; choose {count} or less")
    return np.sort(_smallest(np.arange(count), seed, rows))


def choose_per_class(label_N: np.ndarray, seed: int, each: int) -> np.ndarray:
    """Numbers int64, ascending: so many samples of each class.

    Raises:
        ValueError: A class that has fewer, or samples without a class.
    """
    if not len(label_N) or label_N.min() < 0:
        raise ValueError("--per-class: there are samples without a class; draw with --rows instead")
    chosen = []
    for label in np.unique(label_N).tolist():
        number_N = np.flatnonzero(label_N == label)
        if each > len(number_N):
            raise ValueError(
                f"--per-class {each}, but class {label} has {len(number_N)} samples; "
                f"choose {len(number_N)} or less"
            )
        chosen.append(_smallest(number_N, seed, each))
    return np.sort(np.concatenate(chosen))


def _smallest(number_N: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Of these samples, those `count` whose drawn numbers are smallest."""
    best = np.empty(0, np.int64)
    for start in range(0, len(number_N), PART):
        best = np.concatenate([best, number_N[start : start + PART]])
        # Two words, so that equal ones, of which the first sample would win, hardly ever come.
        high, low = Draws(seed, torch.from_numpy(best)).words("bank/rows", 2).numpy().T
        best = best[np.lexsort((best, low, high))[:count]]
    return best
