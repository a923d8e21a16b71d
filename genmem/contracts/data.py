"""The Encoder seat, and the batch that sets lead to; Source and Tokenizer have files of their own.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import attrs

from genmem.contracts.source import Split

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


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


Reads = Literal["pictures", "text"]
"""What an encoder makes features of: uint8 pictures (B, H, W, C), or texts, (B,) of NumPy's str type."""


class Encoded(NamedTuple):
    """Features of B pictures, or of B texts."""

    pooled_BD: np.ndarray
    tokens_BLD: np.ndarray | None = None


@runtime_checkable
class OnDevice(Protocol):
    """A tokenizer or an encoder that computes on a device; without this, on the CPU."""

    def to(self, device: torch.device) -> object:
        """Move there, with the weights."""


class Encoder(Protocol):
    """Pictures or text to features. The same kind serves banks, alignment, maps and scores."""

    @property
    def width(self) -> int:
        """D of the pooled feature."""

    def encode(self, given: np.ndarray, /) -> Encoded:
        """Features in float32, of pictures or of texts as its settings say (`EncoderConfig.reads`).

        Raises:
            ValueError: Another dtype or size than it works on.
        """

    def fit(self, given: np.ndarray, /) -> None:
        """Learn from the training pictures, where it learns; else nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """What `fit` learned, or the weights; hashed into provenance."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""


@runtime_checkable
class ManyOutputs(Protocol):
    """An encoder that sees more in a picture than its pooled feature; scores ask for it by name.

    Names that scores know: "pooled", what `encode` gives; "logits", (B, classes) before a softmax;
    "spatial", (B, places · channels), a map that still knows where things are, laid out in a row.
    """

    @property
    def outputs(self) -> Mapping[str, int]:
        """{name: width}, "pooled" among them."""

    def encode_outputs(self, pictures_BHWC: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """(B, width) float32 for each of these names, in one pass.

        Raises:
            ValueError: Another dtype or size than it works on.
        """


class DatasetFolder(Protocol):
    """A prepared data set, as a memory sees it."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def views(self) -> int:
        """1, or 2 where mirrored twins are stored."""

    def feature(self, split: Split, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """(stop - start, …) float32: a feature of consecutive samples in one view, 0 plain, 1 mirrored."""

    def count(self, split: Split) -> int:
        """Samples in the split."""

    def labels(self, split: Split) -> np.ndarray:
        """(N,) int64: the samples' classes; -1 where there is none."""

    def provenance(self) -> dict[str, Any]:
        """Source, encoders and their hashes (JSON)."""


@attrs.frozen(kw_only=True)
class EncoderConfig(ABC):
    """Settings of an encoder."""

    reads: ClassVar[Reads] = "pictures"
    """What it makes features of. One of text sits in no table of a recipe, since sets hold pictures;
    commands name it."""

    learns: ClassVar[bool] = True
    """Whether `fit` learns from pictures. If not it is never called, its state is the weights that
    the encoder came with, and a set records their hash alone."""

    @property
    def pooled_width(self) -> int | None:
        """D of the pooled feature, where the settings say it; for counting what is not prepared."""
        return None

    @property
    def given(self) -> Mapping[str, str]:
        """What a `StoredSource` has of this feature: {"": its name there, ".tokens": its name there}.

        Empty where pictures are encoded, as they nearly always are.
        """
        return {}

    @abstractmethod
    def build(self) -> Encoder:
        """The encoder, before `fit`."""
