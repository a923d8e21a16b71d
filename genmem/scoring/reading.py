"""What memory rows alone say of pictures: least squares from rows to samples.

Shapes: N samples, K memories a sample, E memory width.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem import collectives
from genmem.contracts import MemoryStore, Tokenizer
from genmem.scoring import linear
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.sets.pictures import DrawnPictures, PictureSet, as_set, iterate

_FIT_NUMBERS = 200_000_000
"""Numbers in the samples that a decode is fitted to: 1.6 GB in float64."""


@attrs.frozen(eq=False)
class RowReading:
    """A decode of rows, fitted to the training samples' own."""

    decode: linear.LinearDecode
    tokenizer: Tokenizer
    energy: float
    """Share of the pixel energy of held-out pictures that their rows carry."""

    def pictures(self, memory_NKE: Tensor) -> np.ndarray:
        """uint8 (N, H, W, C): what the decode reads from rows."""
        return self.tokenizer.decode(self.decode.decode(memory_NKE.double()).float())


def read_rows(evaluation: Evaluation, store: MemoryStore) -> RowReading:
    """Fit the decode to training samples, and see how much of held-out pictures it explains. Collective.

    Rows are made from the samples' features, so that samples without a row of their own count too.
    """
    batch = evaluation.training.batch_of(_fit_on(evaluation.train_numbers, evaluation.dataset.spec.shape))
    decode = linear.fit(store.encode(batch).double().cpu(), batch.x.double().cpu())
    reading = RowReading(decode, evaluation.tokenizer, 0.0)

    def found(numbers_B: np.ndarray) -> np.ndarray:
        return reading.pictures(store.encode(evaluation.held_out.batch_of(numbers_B)).cpu())

    held_out = evaluation.test
    decoded = DrawnPictures("linear decode", held_out.shape, len(held_out), found)
    return attrs.evolve(reading, energy=explained(held_out, decoded, evaluation.train))


def _fit_on(number_N: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """All numbers, or evenly spaced ones if their samples are too many for a least squares."""
    count = min(len(number_N), max(2, _FIT_NUMBERS // int(np.prod(shape))))
    return number_N[np.arange(count) * len(number_N) // count]


def explained(
    pictures: np.ndarray | PictureSet, found: np.ndarray | PictureSet, train: np.ndarray | PictureSet
) -> float:
    """1 - Σ‖p - p̂‖² / Σ‖p - p̄‖² over uint8 pictures, p̄ the mean training picture. Collective.

    1: found exactly. 0: no better than the mean. Below 0: worse.
    """
    pictures, found, train = as_set(pictures), as_set(found), as_set(train)
    sum_HWC = np.zeros(train.shape)
    for _, part in iterate(train, *collectives.share(len(train))):
        sum_HWC += part.sum(0, dtype=np.float64)
    mean_HWC = _added(sum_HWC) / len(train)
    totals_2 = np.zeros(2)
    for first, part in iterate(pictures, *collectives.share(len(pictures))):
        other = found.read(np.arange(first, first + len(part)))
        totals_2 += (
            np.square(part.astype(np.float64) - other).sum(),
            np.square(part - mean_HWC).sum(),
        )
    missed, energy = _added(totals_2)
    return float(1 - missed / energy)


def _added(values: np.ndarray) -> np.ndarray:
    return collectives.add(torch.from_numpy(values)).numpy()
