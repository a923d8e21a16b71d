"""Text as counts of its runs of characters, hashed into a fixed width.

Shapes: B texts, D width.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np

from genmem.contracts import Encoded
from genmem_text import NgramsConfig
from genmem_text.texts import check_texts


class NgramEncoder:
    """Each run of characters adds 1 or -1 to the place its hash says; the sum is brought to norm 1.

    Small and capital letters, and ways to write the same character, are one. A space before and
    after a text marks where words begin and end.
    """

    def __init__(self, config: NgramsConfig) -> None:
        """Nothing is learned."""
        self._config = config

    @property
    def width(self) -> int:
        """D."""
        return self._config.width

    def encode(self, text_B: np.ndarray, /) -> Encoded:
        """(B, D) float32, of norm 1.

        Raises:
            ValueError: No texts, or one without a character.
        """
        check_texts("ngrams", text_B)
        return Encoded(np.stack([self._count(text) for text in text_B.tolist()]).astype(np.float32))

    def fit(self, text_B: np.ndarray, /) -> None:
        """Nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """Empty: the settings say all."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing."""

    def _count(self, text: str) -> np.ndarray:
        counts_D = np.zeros(self._config.width)
        for run in _runs(text, self._config.longest):
            number = int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "little")
            counts_D[(number >> 1) % len(counts_D)] += 1 if number & 1 else -1
        length = np.linalg.norm(counts_D)
        if length == 0:
            raise ValueError(f"ngrams: the counts of {text!r} cancel out; take a larger width")
        return np.asarray(counts_D / length)


def _runs(text: str, longest: int) -> Iterator[str]:
    plain = f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "
    for length in range(1, longest + 1):
        for start in range(len(plain) - length + 1):
            run = plain[start : start + length]
            if run.strip():
                yield run
