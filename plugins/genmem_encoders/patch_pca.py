"""Principal components of the patches of pictures: tokens that say what is where.

Shapes: N pictures to fit on, B pictures, H W C picture, L patches in rows, P numbers in a window,
D components.
"""

from __future__ import annotations

import numpy as np

from genmem.contracts import Encoded
from genmem_encoders.components import ComponentEncoder
from genmem_encoders.pictures import check_pictures


class PatchPcaEncoder(ComponentEncoder):
    """Each patch, with some pixels around it, projected onto the leading components of all of them."""

    def __init__(self, width: int, patch: int, context: int, weights: str | None = None) -> None:
        """Keep `width` components of windows of patch + 2 · context pixels a side."""
        super().__init__("patch-pca", width, weights)
        self._patch, self._context = patch, context

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Find the components, over all patches of all pictures, or take those that were found before.

        Raises:
            ValueError: Windows that are too large, or vary in fewer directions than asked for; pictures
                that are not whole patches; a file of weights that holds no such components.
        """
        self._settle(pictures_BHWC, self._rows_of)

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """Tokens (B, L, D) float32, and their mean (B, D)."""
        found = self._fitted()
        rows_nP, size = self._rows_of(pictures_BHWC), len(found.mean_P)
        if rows_nP.shape[1] != size:
            raise ValueError(
                f"patch-pca was fitted on windows of {size} numbers, "
                f"these pictures {pictures_BHWC.shape[1:]} have windows of {rows_nP.shape[1]}"
            )
        tokens_BLD = found.project(rows_nP).reshape(len(pictures_BHWC), -1, self._width)
        return Encoded(tokens_BLD.mean(1), tokens_BLD)

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
