"""Features and the rows they are to be mapped to, in another order in each epoch, some at a time.

Consecutive rows are read in pieces; pieces are permuted, and rows within a few pieces. So reading
stays fast, and memory does not grow with the bank.
Shapes: B pairs, N rows of a piece, D width of a feature, E of a row, T texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.draws import Draws
from genmem_bank.building.features import Features
from genmem_bank.conditioning.code import Code

PIECE = 2048
TOGETHER = 8
"""Pieces whose rows are permuted together."""


class Pairs(NamedTuple):
    """Some features, and their rows."""

    feature_BD: Tensor
    row_BE: Tensor


class Partner(Protocol):
    """Where the features of rows come from."""

    def moments(self) -> tuple[Tensor, float]:
        """Mean (D,) of the features, and the root of their mean square about it."""

    def read(self, start: int, stop: int, draws: Draws) -> tuple[Tensor, np.ndarray]:
        """(N, D) for rows start … stop - 1 of the bank, and which rows (N,) have one at all."""


@attrs.frozen
class OtherFeatures:
    """Features of the same pictures, by another encoder."""

    features: Features

    def moments(self) -> tuple[Tensor, float]:
        """Over all rows, in float64."""
        sum_D: np.ndarray | float = 0.0
        square, width = 0.0, 0
        for start in range(0, self.features.rows, PIECE):
            part_ND = self._part(start, min(start + PIECE, self.features.rows)).astype(np.float64)
            sum_D, square, width = sum_D + part_ND.sum(0), square + np.square(part_ND).sum(), part_ND.shape[1]
        mean_D = np.asarray(sum_D) / self.features.rows
        variance = square / (self.features.rows * width) - float(np.square(mean_D).mean())
        return torch.from_numpy(mean_D).float(), max(variance, 1e-12) ** 0.5

    def read(self, start: int, stop: int, draws: Draws) -> tuple[Tensor, np.ndarray]:
        """Every row has one."""
        return torch.from_numpy(self._part(start, stop)), np.arange(start, stop)

    def _part(self, start: int, stop: int) -> np.ndarray:
        part_ND = self.features.read(start, stop).astype(np.float32)
        if not np.isfinite(part_ND).all():
            raise ValueError(
                f"{self.features.dataset.path}: feature {self.features.encoder!r} of some sample between "
                f"rows {start} and {stop - 1} is not finite; nothing was written"
            )
        return part_ND


@attrs.frozen(eq=False)
class ClassTexts:
    """A text for each row: one of its class's, drawn."""

    feature_TD: Tensor
    start_K: np.ndarray
    """Where the texts of each class begin; and the number of texts."""

    label_N: np.ndarray
    """Of every row of the bank; -1 where there is none."""

    def moments(self) -> tuple[Tensor, float]:
        """Over the texts."""
        mean_D = self.feature_TD.mean(0)
        spread = float((self.feature_TD - mean_D).square().mean().sqrt())
        return mean_D, max(spread, 1e-6)

    def read(self, start: int, stop: int, draws: Draws) -> tuple[Tensor, np.ndarray]:
        """Rows without a class have none."""
        label_N = self.label_N[start:stop]
        known_N = label_N >= 0
        count_N = np.where(known_N, np.diff(self.start_K)[label_N], 1)
        drawn_N = draws.integers("map/text", torch.from_numpy(count_N)).numpy()
        text_N = (self.start_K[label_N] + drawn_N)[known_N]
        return self.feature_TD[torch.from_numpy(text_N)], start + np.flatnonzero(known_N)


@attrs.frozen(eq=False)
class Epochs:
    """All pairs of a bank, epoch by epoch."""

    read: Callable[[int, int], Tensor]
    """Consecutive rows (N, E) of the bank, of norm 1."""

    built: int
    """Rows that have a sample."""

    partner: Partner
    batch: int
    seed: int

    def __call__(self, epoch: int, tick: Callable[[int], None]) -> Iterator[Pairs]:
        """The batches of an epoch; `tick` is told how many more rows are done."""
        starts = np.arange(0, self.built, PIECE)
        order = _permutation(self.seed, f"map/pieces/{epoch}", len(starts))
        for first in range(0, len(starts), TOGETHER):
            chosen = starts[order[first : first + TOGETHER]].tolist()
            parts = [self._piece(start, epoch) for start in chosen]
            feature_ND, row_NE = (torch.cat(part) for part in zip(*parts, strict=True))
            within_N = torch.from_numpy(_permutation(self.seed, f"map/rows/{epoch}/{first}", len(row_NE)))
            for pick_B in torch.split(within_N, self.batch) if len(within_N) else ():
                yield Pairs(feature_ND[pick_B], row_NE[pick_B])
            tick(sum(min(PIECE, self.built - start) for start in chosen))

    def _piece(self, start: int, epoch: int) -> Pairs:
        stop = min(start + PIECE, self.built)
        draws = Draws(self.seed, torch.arange(start, stop), torch.full((stop - start,), epoch))
        feature_ND, row_N = self.partner.read(start, stop, draws)
        return Pairs(feature_ND, self.read(start, stop)[torch.from_numpy(row_N - start)])


def unit_rows(code: Code, stored_BW: Tensor) -> Tensor:
    """(B, E): rows of norm 1 from their stored form."""
    return F.normalize(code.decode(stored_BW), dim=1)


def _permutation(seed: int, purpose: str, count: int) -> np.ndarray:
    return Draws(seed, torch.arange(count)).uniform(purpose).argsort().numpy()
