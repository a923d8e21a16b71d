"""Which rows samples are generated from, when nobody names them.

Shapes: B samples, N rows, K classes.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genmem.draws import Draws

Draw = Literal["uniform", "class-balanced", "noise"]


def draw_by_noise(noise: Tensor, rows: int) -> Tensor:
    """Row numbers (B,): the noise a sample starts from says which, as in GMem's first code.

    The mean of a noise, times the root of its size, is standard normal; its distribution function
    Φ makes it uniform.
    """
    flat_BD = noise.flatten(1).double()
    normal_B = flat_BD.mean(1) * math.sqrt(flat_BD.shape[1])
    uniform_B: Tensor = torch.special.ndtr(normal_B)
    return (uniform_B * rows).long().clamp(max=rows - 1)


class Classes:
    """Rows by class. Eight bytes a row, while rows are drawn by class."""

    def __init__(self, label_N: np.ndarray) -> None:
        """Of rows with these classes; those with -1 have none and are never drawn.

        Raises:
            ValueError: No row has a class.
        """
        self._numbers = torch.from_numpy(np.argsort(label_N, kind="stable"))
        self._first = int((label_N < 0).sum())
        found, counts = np.unique(label_N[label_N >= 0], return_counts=True)
        if not len(found):
            raise ValueError(
                'draw = "class-balanced", but no row of this bank has a class; draw "uniform", '
                "or build the bank of a set with labels"
            )
        self.found_K = torch.from_numpy(found)
        self._counts_K = torch.from_numpy(counts)
        self._starts_K = self._first + self._counts_K.cumsum(0) - self._counts_K

    def draw(self, draws: Draws, label_B: Tensor | None, purpose: str) -> Tensor:
        """Row numbers (B,): any row of the class asked for; without one, classes take turns by number.

        Raises:
            ValueError: A class that no row has.
        """
        place_B = self._places(draws.index_B.cpu(), None if label_B is None else label_B.cpu())
        within_B = draws.integers(purpose, self._counts_K[place_B].to(draws.index_B.device)).cpu()
        return self._numbers[self._starts_K[place_B] + within_B].to(draws.index_B.device)

    def _places(self, index_B: Tensor, label_B: Tensor | None) -> Tensor:
        if label_B is None:
            return index_B % len(self.found_K)
        place_B = torch.searchsorted(self.found_K, label_B).clamp(max=len(self.found_K) - 1)
        missing_B = self.found_K[place_B] != label_B
        if missing_B.any():
            raise ValueError(f"no row of this bank has class {int(label_B[missing_B][0])}")
        return place_B
