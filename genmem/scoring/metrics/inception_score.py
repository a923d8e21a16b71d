"""The Inception Score (Salimans et al., 2016), streamed and added up over processes.

exp E_x KL(p(y|x) ‖ p(y)) within each of S splits; the score is their mean.
Shapes: N samples in all, B of them at once, C classes, S splits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features

SPLITS = 10
SEED = 2020


class InceptionScore(NamedTuple):
    """Over the splits."""

    mean: float
    deviation: float


@attrs.define(eq=False)
class SplitSums:
    """Sums over the samples of each split."""

    split_N: np.ndarray
    """int64: the split that each sample belongs to."""

    count_S: Tensor
    chances_SC: Tensor
    """Σ p(y|x), float64."""

    certainty_S: Tensor
    """Σ Σ_y p(y|x) log p(y|x)."""

    @classmethod
    def empty(cls, samples: int, classes: int, splits: int = SPLITS, seed: int = SEED) -> SplitSums:
        """Sums of none of `samples` samples.

        They are dealt to the splits at random, as pictures are often sorted by class; the same way
        as torch-fidelity does with its default seed.

        Raises:
            ValueError: Fewer samples than splits.
        """
        if not 1 <= splits <= samples:
            raise ValueError(
                f"an Inception Score over {splits} splits needs {splits} samples or more, got {samples}"
            )
        split_N = np.empty(samples, np.int64)
        bounds = [number * samples // splits for number in range(splits + 1)]
        split_N[np.random.RandomState(seed).permutation(samples)] = np.repeat(
            np.arange(splits), np.diff(bounds)
        )
        zeros = torch.zeros(splits, classes + 2, dtype=torch.float64)
        return cls(split_N, zeros[:, 0].clone(), zeros[:, 2:].clone(), zeros[:, 1].clone())

    def update(self, start: int, logits_BC: Features) -> None:
        """Take in samples start … start + B - 1 by their logits.

        Raises:
            TypeError, ValueError: Not floating-point, not (B, C), or a value that is not finite.
        """
        rows = read_features("logits", logits_BC, width=self.chances_SC.shape[1], least=0).cpu()
        log_BC = rows.log_softmax(1)
        chances_BC = log_BC.exp()
        split_B = torch.from_numpy(self.split_N[start : start + len(rows)])
        self.count_S.index_add_(0, split_B, torch.ones(len(rows), dtype=torch.float64))
        self.chances_SC.index_add_(0, split_B, chances_BC)
        self.certainty_S.index_add_(0, split_B, (chances_BC * log_BC).sum(1))

    def reduced(self, add: Callable[[Tensor], Tensor]) -> SplitSums:
        """The sums of all ranks, the same on each; `add` sums a tensor over the ranks."""
        return SplitSums(
            self.split_N, *(add(part) for part in (self.count_S, self.chances_SC, self.certainty_S))
        )

    def score(self) -> InceptionScore:
        """The mean over splits, and the deviation.

        Raises:
            ValueError: Samples are missing.
        """
        if (missing := len(self.split_N) - int(self.count_S.sum())) != 0:
            raise ValueError(f"{missing} of {len(self.split_N)} samples were not taken in")
        marginal_SC = self.chances_SC / self.count_S[:, None]
        divergence_S = self.certainty_S / self.count_S - torch.xlogy(marginal_SC, marginal_SC).sum(1)
        score_S = divergence_S.exp()
        return InceptionScore(score_S.mean().item(), score_S.std(correction=0).item())
