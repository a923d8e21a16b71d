"""Principal components of the pixels of whole pictures.

Shapes: N pictures to fit on, B pictures, P numbers in a picture, D components.
"""

from __future__ import annotations

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.components import ComponentEncoder
from genmem_encoders.pictures import flatten_pictures


class PcaEncoder(ComponentEncoder):
    """Projection of the centred pixels onto the leading eigenvectors of their covariance."""

    def __init__(self, width: int, weights: str | None = None) -> None:
        """Keep `width` components, those in the file `weights` where one is named."""
        super().__init__("pca", width, weights)

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Find the components, or take those that were found before.

        Raises:
            ValueError: Pictures that are too large, or vary in fewer directions than asked for; a
                file of weights that holds no such components.
        """
        self._settle(pictures_BHWC, _rows_of)

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32: coordinates along the components."""
        found = self._fitted()
        pixels_BP, size = _rows_of(pictures_BHWC), len(found.mean_P)
        if pixels_BP.shape[1] != size:
            raise ValueError(f"pca was fitted on pictures of {size} numbers, got {pictures_BHWC.shape[1:]}")
        return Encoded(found.project(pixels_BP))


def _rows_of(pictures_BHWC: np.ndarray) -> np.ndarray:
    return flatten_pictures(pictures_BHWC, np.float64)
