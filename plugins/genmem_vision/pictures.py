"""From pictures to what a vision network takes.

Shapes: B pictures, H W picture; 3 colours, S side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Preparation(NamedTuple):
    """How a network was shown its pictures."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    antialias: bool

    def __call__(self, pictures_BHWC: np.ndarray, device: torch.device) -> Tensor:
        """(B, 3, S, S) fp32: x / 255, resized bicubically, (x - mean) / std.

        REPA normalises before it resizes; that is the same, as both are affine and nothing is clamped.
        """
        x = torch.from_numpy(np.ascontiguousarray(pictures_BHWC)).to(device)
        x = x.permute(0, 3, 1, 2).float() / 255
        if x.shape[2:] != (self.side, self.side):
            x = functional.interpolate(x, (self.side, self.side), mode="bicubic", antialias=self.antialias)
        mean, std = (x.new_tensor(part).view(1, 3, 1, 1) for part in (self.mean, self.std))
        return (x - mean) / std


def check_pictures(name: str, pictures_BHWC: np.ndarray) -> None:
    """Refuse what is no batch of pictures.

    Raises:
        ValueError: Another dtype than uint8, another rank, other channels than 1 or 3.
    """
    shape = pictures_BHWC.shape
    if pictures_BHWC.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(
            f"{name}: expected uint8 pictures (B, H, W, 1 or 3), got {pictures_BHWC.dtype} {shape}"
        )
