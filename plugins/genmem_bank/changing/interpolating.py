"""Points between two rows, or between pictures: c = a·c_i + (1 - a)·c_j (GMem, eq. 11).

Shapes: S points, W numbers stored for a row, B ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from genmem_bank.changing.adding import Editor


def shares(steps: int) -> np.ndarray:
    """(S,) the first end's shares of points strictly between: 0.9 … 0.1 for nine, as in the paper."""
    return 1 - np.arange(1, steps + 1) / (steps + 1)


def interpolate(
    editor: Editor,
    first_W: np.ndarray,
    second_W: np.ndarray,
    share_S: Sequence[float],
    spherical: bool = False,
) -> np.ndarray:
    """(S, W) float64: points that are the first end at share 1 and the second at share 0.

    `spherical`: shares are of the angle between the rows.
    """
    share_S1 = torch.as_tensor(np.asarray(share_S, np.float64))[:, None]
    first, second = (torch.from_numpy(end_W).expand(len(share_S1), -1) for end_W in (first_W, second_W))
    if spherical:
        share_S1 = editor.code.share(first, second, share_S1[:, 0])[:, None]
    return (share_S1 * first + (1 - share_S1) * second).numpy()
