"""Pictures from a Gaussian with the training mean and covariance: the row a score must expose.

Its Fréchet distance in the fitted space is that of its samples' scatter alone, yet it knows
no edge and no label. Shapes: B pictures, H W C of a picture, D = H·W·C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem import collectives
from genmem.scoring.moments import Moments
from genmem.scoring.sets.pictures import PictureSet, as_set, iterate

if TYPE_CHECKING:
    from genmem.draws import Draws

MAX_WIDTH = 8192
"""Values of a picture; a covariance of this width takes half a GiB."""


@attrs.frozen(eq=False)
class Gaussian:
    """N(mean, root · root), root symmetric: the one square root no library's signs enter."""

    mean_D: Tensor
    root_DD: Tensor

    def draw(self, draws: Draws) -> Tensor:
        """(B, D) float64, one row for each of `draws.index_B`; purpose "gaussian"."""
        normal_BD = draws.normal("gaussian", (len(self.mean_D),)).to(self.mean_D)
        return self.mean_D + normal_BD @ self.root_DD

    def pictures(self, draws: Draws, shape: tuple[int, int, int]) -> np.ndarray:
        """uint8 (B, H, W, C): the same rows, clamped and rounded."""
        values_BD = self.draw(draws).clamp_(0, 255).round_()
        return values_BD.to(torch.uint8).cpu().numpy().reshape(-1, *shape)


def fit(moments: Moments) -> Gaussian:
    """The Gaussian of these moments.

    Raises:
        ValueError: Fewer than two rows, or moments that are not finite.
    """
    values_D, vectors_DD = torch.linalg.eigh(moments.covariance())
    return Gaussian(moments.mean_D, (vectors_DD * values_D.clamp(min=0).sqrt()) @ vectors_DD.T)


def fit_pictures(pictures: np.ndarray | PictureSet) -> Gaussian:
    """The Gaussian of these pictures' pixels; every process reads its share. Collective.

    Raises:
        TypeError, ValueError: No uint8 pictures, fewer than two, or pictures of more than
            8,192 values.
    """
    pictures = as_set(pictures)
    width = int(np.prod(pictures.shape))
    if width > MAX_WIDTH:
        raise ValueError(
            f"pictures of {pictures.shape} have a covariance of {width} × {width}; at most {MAX_WIDTH}"
        )
    moments = Moments.empty(width)
    for _, part in iterate(pictures, *collectives.share(len(pictures))):
        moments.update(part.reshape(len(part), width).astype(np.float64), name="pictures")
    return fit(moments.reduced(collectives.add))
