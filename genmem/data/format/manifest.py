"""manifest.json: what a split folder holds, and how its samples are to be read.

A sample's number is its place in manifest order: the shards as listed, each from its start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from genmem.contracts import LatentSpec
from genmem.data.files import replace_file

FORMAT = 1
MANIFEST = "manifest.json"


class Form(NamedTuple):
    """The array that one sample has in a field."""

    dtype: str
    shape: tuple[int, ...]


@attrs.frozen
class Component:
    """A component as it was when the set was prepared."""

    use: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        given = {name: value for name, value in self.settings.items() if value is not None}
        return f"{self.use} {json.dumps(given, sort_keys=True)}" if given else self.use


@attrs.frozen(kw_only=True)
class Shard:
    """One tar."""

    name: str
    samples: int
    bytes: int
    sha256: str
    fields: tuple[str, ...]
    """Suffixes of its members: "x.npy", "cls", …"""


@attrs.frozen(kw_only=True)
class Feature:
    """A per-sample feature."""

    dtype: str
    shape: tuple[int, ...]

    encoder: str
    """Name of the encoder, in the set's table of encoders."""


@attrs.frozen(kw_only=True)
class FittedEncoder:
    """An encoder with the hash of what it had learned."""

    use: str
    settings: Mapping[str, Any]

    state: str
    """sha256 of its file in `encoders/`; empty where it learned nothing."""

    @property
    def component(self) -> Component:
        """Its name and settings."""
        return Component(self.use, self.settings)


@attrs.frozen(kw_only=True)
class Manifest:
    """Everything about a split but the samples themselves."""

    split: str
    views: int
    """1, or 2 where every field has a mirrored twin."""

    picture_shape: tuple[int, int, int]
    """H, W, C of the pictures."""

    tokenizer: Component
    latent: LatentSpec
    class_names: tuple[str, ...]
    encoders: Mapping[str, FittedEncoder]
    features: Mapping[str, Feature]
    shards: tuple[Shard, ...]
    index: str
    """sha256 of index.npz."""

    source: Component
    provenance: Mapping[str, Any]

    @property
    def samples(self) -> int:
        """Samples in the split."""
        return sum(shard.samples for shard in self.shards)

    def form(self, field: str) -> Form:
        """What a sample has in "x" or in a feature.

        Raises:
            KeyError: The set has no such field.
        """
        if field != "x":
            return Form(self.features[field].dtype, self.features[field].shape)
        channels, height, width = self.latent.shape
        return Form(self.latent.dtype, ((1 + self.latent.moments) * channels, height, width))

    def to_json(self) -> str:
        """The text of manifest.json."""
        table = {"format": FORMAT, "samples": self.samples, **attrs.asdict(self)}
        table["latent"] = self.latent._asdict()
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"

    def save(self, folder: Path) -> None:
        """Write it into a split folder."""
        with replace_file(folder / MANIFEST) as file:
            file.write(self.to_json().encode())
