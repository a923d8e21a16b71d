"""Principal components of the pixels of whole pictures.

Shapes: N pictures to fit on, B pictures, P numbers in a picture, D components.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.components import Components, fit_components
from genmem_encoders.pictures import flatten_pictures


class PcaEncoder:
    """Projection of the centred pixels onto the leading eigenvectors of their covariance."""

    def __init__(self, width: int) -> None:
        """Keep `width` components."""
        self._width = width
        self._found: Components | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._width

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Find the components.

        Raises:
            ValueError: Pictures that are too large, or vary in fewer directions than asked for.
        """
        self._found = fit_components(pictures_BHWC, _rows_of, self._width, "pca")

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32: coordinates along the components."""
        if self._found is None:
            raise ValueError("pca: fit it, or load a state, before encoding")
        pixels_BP, size = _rows_of(pictures_BHWC), len(self._found.mean_P)
        if pixels_BP.shape[1] != size:
            raise ValueError(f"pca was fitted on pictures of {size} numbers, got {pictures_BHWC.shape[1:]}")
        return Encoded(self._found.project(pixels_BP))

    def state(self) -> dict[str, np.ndarray]:
        """Mean and components, in float64."""
        if self._found is None:
            raise ValueError("pca: there is no state before fit")
        return {"mean": self._found.mean_P, "components": self._found.components_DP}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state.

        Raises:
            ValueError: One of another width.
        """
        if len(state["components"]) != self._width:
            raise ValueError(
                f"pca of width {self._width}: the state has {len(state['components'])} components"
            )
        self._found = Components(state["mean"], state["components"])


def _rows_of(pictures_BHWC: np.ndarray) -> np.ndarray:
    return flatten_pictures(pictures_BHWC, np.float64)
