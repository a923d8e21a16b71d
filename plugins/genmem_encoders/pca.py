"""Principal components of pixels, fitted in float64.

Shapes: N pictures to fit on, B pictures, P numbers in a picture, D components.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.pictures import flatten_pictures

_MOST_PIXELS = 4096
_AT_ONCE = 1024


class PcaEncoder:
    """Projection of the centred pixels onto the leading eigenvectors of their covariance."""

    def __init__(self, width: int) -> None:
        """Keep `width` components."""
        self._width = width
        self.mean_P: np.ndarray | None = None
        self.components_DP: np.ndarray | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._width

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Eigenvectors of the covariance, largest eigenvalue first.

        The entry of largest magnitude of each is made positive, so that the sign is no accident.

        Raises:
            ValueError: Pictures that are too large, or vary in fewer directions than asked for.
        """
        mean_P, covariance_PP = measure_pixels(pictures_BHWC)
        value_P, vector_PP = np.linalg.eigh(covariance_PP)
        rank = int((value_P > 1e-10 * value_P[-1]).sum()) if value_P[-1] > 0 else 0
        if self._width > rank:
            raise ValueError(
                f"pca of width {self._width}: {len(pictures_BHWC)} pictures vary in {rank} directions only; "
                f"take a width of at most {rank}"
            )
        components_DP = vector_PP[:, ::-1][:, : self._width].T
        largest_D1 = np.abs(components_DP).argmax(1)[:, None]
        sign_D1 = np.sign(np.take_along_axis(components_DP, largest_D1, 1))
        self.mean_P, self.components_DP = mean_P, np.ascontiguousarray(components_DP * sign_D1)

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32: coordinates along the components; computed in float64."""
        if self.mean_P is None or self.components_DP is None:
            raise ValueError("pca: fit it, or load a state, before encoding")
        pixels_BP = flatten_pictures(pictures_BHWC, np.float64)
        if pixels_BP.shape[1] != len(self.mean_P):
            raise ValueError(
                f"pca was fitted on pictures of {len(self.mean_P)} numbers, got {pictures_BHWC.shape[1:]}"
            )
        return Encoded(((pixels_BP - self.mean_P) @ self.components_DP.T).astype(np.float32))

    def state(self) -> dict[str, np.ndarray]:
        """Mean and components, in float64."""
        if self.mean_P is None or self.components_DP is None:
            raise ValueError("pca: there is no state before fit")
        return {"mean": self.mean_P, "components": self.components_DP}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state.

        Raises:
            ValueError: One of another width.
        """
        if len(state["components"]) != self._width:
            raise ValueError(
                f"pca of width {self._width}: the state has {len(state['components'])} components"
            )
        self.mean_P, self.components_DP = state["mean"], state["components"]


def measure_pixels(pictures_NHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and covariance (P, P) of pixels in [-1, 1], in float64, a part of the pictures at a time.

    Raises:
        ValueError: Pictures that are too large for a covariance.
    """
    size = math.prod(pictures_NHWC.shape[1:])
    if size > _MOST_PIXELS:
        raise ValueError(f"pca works on pictures of at most {_MOST_PIXELS} numbers, these have {size}")
    count = len(pictures_NHWC)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE)]
    mean_P, covariance_PP = np.zeros(size), np.zeros((size, size))
    for part in parts:
        mean_P += flatten_pictures(pictures_NHWC[part], np.float64).sum(0) / count
    for part in parts:
        centred_BP = flatten_pictures(pictures_NHWC[part], np.float64) - mean_P
        covariance_PP += centred_BP.T @ centred_BP / count
    return mean_P, covariance_PP
