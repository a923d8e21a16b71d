"""The Tokenizer seat: pictures to samples and back.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import attrs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class LatentSpec(NamedTuple):
    """How x follows from what is stored: x = stored · scale + shift."""

    tokenizer: str
    shape: tuple[int, int, int]
    dtype: str
    scale: tuple[float, ...]
    """One number, or one a channel."""

    shift: tuple[float, ...]
    moments: bool = False
    """Stored: mean and deviation, from which a posterior is drawn."""

    weights: str = ""
    """Hash of the tokenizer's weights, where it has any."""


class Record(NamedTuple):
    """How a sample lies in its shard."""

    shape: tuple[int, ...]
    dtype: str


class Tokenizer(Protocol):
    """Pictures to samples and back."""

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        """The form stored for pictures of (H, W, C)."""

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        """What is stored, (B, C, H, W), or (B, 2C, H, W) for moments."""

    def decode(self, x: Tensor) -> np.ndarray:
        """Pictures uint8 (B, H, W, C) from samples (B, C, H, W): clamped, rounded."""


@attrs.frozen(kw_only=True)
class TokenizerConfig(ABC):
    """Settings of a tokenizer."""

    shows_any: ClassVar[bool] = False
    """It decodes samples of whatever tokenizer, if only roughly: specs are not compared."""

    def sample_shape(self, picture_shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """C, H, W of a sample of a picture (H, W, C), unbuilt; None where only the built tokenizer knows."""
        return None

    def record(self, shape: tuple[int, int, int]) -> Record | None:
        """How a sample of (C, H, W) is stored, unbuilt and without weights; None where only the built
        tokenizer knows."""
        return None

    @abstractmethod
    def build(self) -> Tokenizer:
        """The tokenizer."""
