"""The pictures of a prepared set, decoded when they are read; and those that a run generates.

Shapes: B pictures asked for, H W C picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from genmem.contracts import Split, Tokenizer
from genmem.data.dataset import Dataset
from genmem.sampling.generator import Generator


class SplitPictures:
    """Samples of one split, plain view, through its tokenizer."""

    def __init__(
        self, dataset: Dataset, split: Split, tokenizer: Tokenizer, numbers_N: np.ndarray | None = None
    ) -> None:
        """The samples of these numbers; all if absent."""
        self.name = f"{dataset.path}/{split}"
        self._dataset, self._split, self._tokenizer = dataset, split, tokenizer
        self.numbers_N = np.arange(dataset.count(split)) if numbers_N is None else numbers_N
        self.shape = dataset.picture_shape

    def __len__(self) -> int:
        return len(self.numbers_N)

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C): by their places among these samples."""
        return self._dataset.pictures(self._split, self.numbers_N[numbers_B], self._tokenizer)

    def part(self, places: Sequence[int] | np.ndarray | slice) -> SplitPictures:
        """Some of them."""
        return SplitPictures(self._dataset, self._split, self._tokenizer, self.numbers_N[places])


class GeneratedPictures:
    """Samples 0 … N - 1 of a seed, generated when they are read; always in the same batches."""

    def __init__(
        self,
        name: str,
        generator: Generator,
        tokenizer: Tokenizer,
        num: int,
        *,
        seed: int,
        batch: int,
        shape: tuple[int, int, int],
    ) -> None:
        """Nothing is generated yet."""
        self.name, self.shape = name, shape
        self._generator, self._tokenizer = generator, tokenizer
        self._num, self._seed, self._batch = num, seed, batch

    def __len__(self) -> int:
        return self._num

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C)."""
        parts = self._generator.batches(torch.from_numpy(numbers_B), self._seed, self._batch)
        return np.concatenate([self._tokenizer.decode(part.x) for part in parts])
