"""Pixels as features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.pictures import flatten_pictures


class PixelEncoder:
    """The pixels in a row, row by row, channels last."""

    def __init__(self) -> None:
        """An encoder that has seen no picture yet."""
        self._width: int | None = None

    @property
    def width(self) -> int:
        """H·W·C; known once it has seen a picture."""
        if self._width is None:
            raise ValueError("the pixel encoder's width is known once it has seen a picture: fit it first")
        return self._width

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, H·W·C) float32 in [-1, 1]."""
        pooled_BD = flatten_pictures(pictures_BHWC, np.float32)
        if self._width not in (None, pooled_BD.shape[1]):
            raise ValueError(f"fitted on pictures of {self._width} numbers, got {pictures_BHWC.shape[1:]}")
        self._width = pooled_BD.shape[1]
        return Encoded(pooled_BD)

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Take note of the pictures' size."""
        self.encode(pictures_BHWC[:1])

    def state(self) -> dict[str, np.ndarray]:
        """The width."""
        return {"width": np.array([self.width], np.int64)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""
        self._width = int(state["width"][0])
