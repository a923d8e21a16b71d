"""The seats at the edge: Source, Tokenizer, Encoder, and the batch they lead to.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import attrs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Split = Literal["train", "test"]


class Batch(NamedTuple):
    """One micro-batch, on the device. Nothing after the stream knows how it was stored."""

    x: Tensor
    """(B, C, H, W) fp32: posterior drawn, shift and scale applied."""

    label_B: Tensor
    """int64; -1 where the set has no labels."""

    index_B: Tensor
    """int64: number of the sample in manifest order, its identity everywhere."""

    view_B: Tensor
    """int64: 0 plain, 1 mirrored."""

    round_B: Tensor
    """int64: epoch this row belongs to; with `index_B` it keys every draw."""

    features: Mapping[str, Tensor]
    """Per-sample features, {"name": (B, …)}, of the same view as `x`."""

    fetched: Mapping[str, Tensor]
    """What each conditioning memory fetched for these samples, by its name."""


class Source(Protocol):
    """Where pictures come from."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order; empty where there are no labels."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What goes into the manifest: name, licence, hash (JSON)."""

    def count(self, split: Split) -> int:
        """Pictures in this split."""

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, C) and label (-1: none)."""


class Encoded(NamedTuple):
    """Features of B pictures."""

    pooled_BD: np.ndarray
    tokens_BLD: np.ndarray | None = None


class Encoder(Protocol):
    """Pictures to features. The same kind serves banks, alignment and scores."""

    @property
    def width(self) -> int:
        """D of the pooled feature."""

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """Features in float32.

        Raises:
            ValueError: Another dtype or size than it works on.
        """

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Learn from the training pictures, where it learns; else nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """What `fit` learned, or the weights; hashed into provenance."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""


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


class Tokenizer(Protocol):
    """Pictures to samples and back."""

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        """The form stored for pictures of (H, W, C)."""

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        """What is stored, (B, C, H, W), or (B, 2C, H, W) for moments."""

    def decode(self, x: Tensor) -> np.ndarray:
        """Pictures uint8 (B, H, W, C) from samples (B, C, H, W): clamped, rounded."""


class DatasetFolder(Protocol):
    """A prepared data set, as a memory sees it."""

    @property
    def path(self) -> Path:
        """Its folder."""

    def feature(self, split: Split, name: str, start: int, stop: int) -> np.ndarray:
        """(stop - start, …) float32: a feature of consecutive samples, view 0."""

    def count(self, split: Split) -> int:
        """Samples in the split."""

    def provenance(self) -> dict[str, Any]:
        """Source, encoders and their hashes (JSON)."""


@attrs.frozen(kw_only=True)
class SourceConfig(ABC):
    """Settings of a source."""

    @abstractmethod
    def build(self) -> Source:
        """The source."""


@attrs.frozen(kw_only=True)
class TokenizerConfig(ABC):
    """Settings of a tokenizer."""

    @abstractmethod
    def build(self) -> Tokenizer:
        """The tokenizer."""


@attrs.frozen(kw_only=True)
class EncoderConfig(ABC):
    """Settings of an encoder."""

    @abstractmethod
    def build(self) -> Encoder:
        """The encoder, before `fit`."""
