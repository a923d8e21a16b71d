"""Pixels as samples.

Shapes: B pictures, H W C picture.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from genmem.contracts import LatentSpec
from genmem_encoders.pictures import check_pictures

_HALF = 127.5


class PixelTokenizer:
    """Stores uint8 pixels; x = pixel / 127.5 - 1."""

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        """The form stored for pictures of (H, W, C)."""
        height, width, channels = picture_shape
        shape = (channels, height, width)
        return LatentSpec("pixels", shape, "uint8", scale=(1 / _HALF,), shift=(-1.0,))

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        """uint8 (B, C, H, W)."""
        check_pictures(pictures_BHWC)
        return np.ascontiguousarray(pictures_BHWC.transpose(0, 3, 1, 2))

    def decode(self, x: Tensor) -> np.ndarray:
        """uint8 (B, H, W, C): clamped to [-1, 1] and rounded; x = 0, halfway between two greys, gives 128."""
        grey = (x.float().clamp(-1, 1) + 1) * _HALF
        pictures: np.ndarray = grey.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pictures


class PreviewTokenizer(PixelTokenizer):
    """Shows samples of any number of channels, so that latents can be looked at without a decoder."""

    def decode(self, x: Tensor) -> np.ndarray:
        """uint8 (B, H, W, 3), or (B, H, W, 1) of one or two channels: the first ones, as pixels."""
        return super().decode(x[:, :3] if x.shape[1] >= 3 else x[:, :1])
