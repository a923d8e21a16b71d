"""The Source seat: where pictures, or samples that somebody encoded, come from.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import attrs

from genmem.contracts.tokenizer import LatentSpec

if TYPE_CHECKING:
    import numpy as np

Split = Literal["train", "test"]


class Collection(Protocol):
    """What every source tells of itself."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order; empty where there are no labels."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What goes into the manifest: name, licence, hash (JSON)."""

    def count(self, split: Split) -> int:
        """Pictures or samples in this split."""


@runtime_checkable
class Source(Collection, Protocol):
    """Where pictures come from."""

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, C) and label (-1: none). Threads may call it at once.

        Raises:
            UnreadablePicture: This picture is damaged, or of a kind that is not read.
        """


class UnreadablePicture(ValueError):
    """One picture of a source cannot be read; the message names it and says why."""


class Stored(NamedTuple):
    """Samples that somebody encoded before."""

    views: tuple[Mapping[str, np.ndarray], ...]
    """One mapping a view, plain first: {"x": (B, C, H, W), "feature": (B, …)}; moments have 2C."""

    label_B: np.ndarray
    """int64; -1: none."""


@runtime_checkable
class StoredSource(Collection, Protocol):
    """Where samples come from that are latents already. They are stored as they are.

    One that has the pictures too is a `Source` as well; then encoders can be run on them.
    """

    @property
    def spec(self) -> LatentSpec:
        """How x follows from what is given. Empty `scale` and `shift`: not known, the decoder says."""

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """H, W, C of the pictures that were encoded."""

    def stored(self, split: Split, start: int, stop: int, features: Sequence[str] = ()) -> Stored:
        """Samples start … stop - 1 and these of their features, in every view there is.

        Raises:
            ValueError: A feature that it does not have; latents that are damaged.
        """


class SourceExtent(NamedTuple):
    """What a source has."""

    picture_shape: tuple[int, int, int]
    """H, W, C."""

    num_classes: int
    num_samples: int
    """To train on; 0 where that is left open."""


@attrs.frozen(kw_only=True)
class SourceConfig(ABC):
    """Settings of a source."""

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Whether the file or folder at `path` looks like this kind; no two kinds should say so."""
        return False

    def extent(self) -> SourceExtent | None:
        """What it has, unbuilt and without reading anything; None where only the built source knows."""
        return None

    @abstractmethod
    def build(self) -> Source | StoredSource:
        """The source."""
