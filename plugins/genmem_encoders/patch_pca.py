"""Principal components of the patches of pictures: tokens that say what is where.

Shapes: N pictures to fit on, B pictures, H W C picture, L patches in rows, P numbers in a window,
D components.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.components import Components, fit_components
from genmem_encoders.pictures import check_pictures


class PatchPcaEncoder:
    """Each patch, with some pixels around it, projected onto the leading components of all of them."""

    def __init__(self, width: int, patch: int, context: int) -> None:
        """Keep `width` components of windows of patch + 2 · context pixels a side."""
        self._width, self._patch, self._context = width, patch, context
        self._found: Components | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._width

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Find the components, over all patches of all pictures.

        Raises:
            ValueError: Windows that are too large, or vary in fewer directions than asked for; pictures
                that are not whole patches.
        """
        self._found = fit_components(pictures_BHWC, self._rows_of, self._width, "patch-pca")

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """Tokens (B, L, D) float32, and their mean (B, D)."""
        if self._found is None:
            raise ValueError("patch-pca: fit it, or load a state, before encoding")
        rows_nP, size = self._rows_of(pictures_BHWC), len(self._found.mean_P)
        if rows_nP.shape[1] != size:
            raise ValueError(
                f"patch-pca was fitted on windows of {size} numbers, "
                f"these pictures {pictures_BHWC.shape[1:]} have windows of {rows_nP.shape[1]}"
            )
        tokens_BLD = self._found.project(rows_nP).reshape(len(pictures_BHWC), -1, self._width)
        return Encoded(tokens_BLD.mean(1), tokens_BLD)

    def state(self) -> dict[str, np.ndarray]:
        """Mean and components of the windows, in float64."""
        if self._found is None:
            raise ValueError("patch-pca: there is no state before fit")
        return {"mean": self._found.mean_P, "components": self._found.components_DP}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state.

        Raises:
            ValueError: One of another width.
        """
        if len(state["components"]) != self._width:
            raise ValueError(
                f"patch-pca of width {self._width}: the state has {len(state['components'])} components"
            )
        self._found = Components(state["mean"], state["components"])

    def _rows_of(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        """(B · L, P) in [-1, 1]: the windows, row of patches by row; the border's pixels go on outwards."""
        check_pictures(pictures_BHWC)
        patch, margin = self._patch, (self._context, self._context)
        height, width = pictures_BHWC.shape[1:3]
        if height % patch or width % patch:
            raise ValueError(
                f"patch-pca: pictures of {height} x {width} are not whole patches of {patch}; "
                "take a patch that divides both sides"
            )
        padded = np.pad(pictures_BHWC, ((0, 0), margin, margin, (0, 0)), mode="edge")
        side = patch + 2 * self._context
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
        rows: np.ndarray = windows[:, ::patch, ::patch].reshape(-1, side * side * padded.shape[3])
        return rows.astype(np.float64) / 127.5 - 1
