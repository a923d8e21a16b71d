"""Encoder: pictures to features. The same kind serves banks, alignment and scores.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    import numpy as np
    import torch


class Encoded(NamedTuple):
    """Features of B pictures."""

    pooled_BD: np.ndarray
    tokens_BLD: np.ndarray | None = None


@runtime_checkable
class OnDevice(Protocol):
    """A tokenizer or an encoder that computes on a device; without this, on the CPU."""

    def to(self, device: torch.device) -> object:
        """Move there, with the weights."""


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


@attrs.frozen(kw_only=True)
class EncoderConfig(ABC):
    """Settings of an encoder."""

    learns: ClassVar[bool] = True
    """Whether `fit` learns from pictures. If not it is never called, its state is the weights that
    the encoder came with, and a set records their hash alone."""

    @property
    def given(self) -> Mapping[str, str]:
        """What a `StoredSource` has of this feature: {"": its name there, ".tokens": its name there}.

        Empty where pictures are encoded, as they nearly always are.
        """
        return {}

    @abstractmethod
    def build(self) -> Encoder:
        """The encoder, before `fit`."""
