"""What memory rows alone say of pictures: least squares from rows to samples.

Shapes: N samples, K memories a sample, E memory width.
"""

from __future__ import annotations

import attrs
import numpy as np
from torch import Tensor

from genmem.contracts import MemoryStore, Tokenizer
from genmem.scoring import linear
from genmem.scoring.evaluation import Evaluation


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
    """Fit the decode to training samples, and see how much of held-out pictures it explains.

    Rows are made from the samples' features, so that samples without a row of their own count too.
    """
    batch = evaluation.training.batch_of(evaluation.train_numbers)
    decode = linear.fit(store.encode(batch).double().cpu(), batch.x.double().cpu())
    rows_NKE = store.encode(evaluation.held_out.batch_of(np.arange(len(evaluation.test))))
    reading = RowReading(decode, evaluation.tokenizer, 0.0)
    found = reading.pictures(rows_NKE.cpu())
    return attrs.evolve(reading, energy=explained(evaluation.test, found, evaluation.train))


def explained(pictures: np.ndarray, found: np.ndarray, train: np.ndarray) -> float:
    """1 - Σ‖p - p̂‖² / Σ‖p - p̄‖² over uint8 pictures, p̄ the mean training picture.

    1: found exactly. 0: no better than the mean. Below 0: worse.
    """
    mean_HWC = train.mean(0, dtype=np.float64)
    missed = np.square(pictures.astype(np.float64) - found).sum()
    return float(1 - missed / np.square(pictures - mean_HWC).sum())
