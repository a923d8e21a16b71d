"""Small sets for the tests of the data layer: uneven shards, a source, a tokenizer with moments."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genmem.contracts import LatentSpec, Source, SourceConfig, Split, Tokenizer, TokenizerConfig
from genmem.data.files import hash_file
from genmem.data.format.index import INDEX, join_indexes, save_index
from genmem.data.format.manifest import Component, Feature, FittedEncoder, Manifest
from genmem.data.format.writer import describe_shard, write_shard
from genmem.data.streaming.shards import ShardSet
from genmem.recipe.tables import DataTable, Seat
from genmem_encoders import PixelTokenizerConfig

DIES_AT = "FAKE_SOURCE_DIES_AT"
"""Environment: the process is killed when it has read so many pictures."""

SEVEN = (5, 1, 9, 3, 12, 2, 8)
"""Samples of seven uneven shards: 40 in all."""


def shape_latent(shape: tuple[int, int, int] = (2, 4, 4), **changes: Any) -> LatentSpec:
    """A spec with a scale and a shift for each channel."""
    spec = LatentSpec("fake", shape, "float16", scale=(0.5, 2.0), shift=(-1.0, 0.25))
    return spec._replace(**changes)


def fill(count: int, spec: LatentSpec, views: int = 1) -> dict[str, np.ndarray]:
    """Arrays whose every value tells sample, view and field."""
    channels, height, width = spec.shape
    shape = (count, channels * (2 if spec.moments else 1), height, width)
    arrays: dict[str, np.ndarray] = {}
    for view in range(views):
        suffix = ".mirror" if view else ""
        x = np.random.default_rng([count, view]).normal(size=shape).astype(spec.dtype)
        x[:, 0, 0, 0] = np.arange(count) + 1000 * view
        near = np.stack([np.arange(count), np.full(count, view)], 1).astype(np.float32)
        arrays |= {f"x{suffix}": x, f"near{suffix}": near}
    return arrays


def write_split(
    folder: Path,
    counts: Sequence[int] = SEVEN,
    *,
    spec: LatentSpec | None = None,
    views: int = 1,
    split: str = "train",
    arrays: dict[str, np.ndarray] | None = None,
) -> ShardSet:
    """A split of these shards; labels are the sample's number modulo 10."""
    spec = spec or shape_latent()
    arrays = arrays or fill(sum(counts), spec, views)
    described, first = [], 0
    for i, count in enumerate(counts):
        rows = slice(first, first + count)
        path = folder / f"{i:06d}.tar"
        write_shard(
            path, first, {f: v[rows] for f, v in arrays.items()}, np.arange(first, first + count) % 10
        )
        described.append(describe_shard(path))
        first += count
    save_index(join_indexes([index for _, index in described]), folder)
    manifest = Manifest(
        split=split,
        views=views,
        picture_shape=(8, 8, 1),
        tokenizer=Component("fake", {}),
        latent=spec,
        class_names=tuple("0123456789"),
        encoders={"near": FittedEncoder(use="fake", settings={}, state="")},
        features={"near": Feature(dtype="float32", shape=(2,), encoder="near")},
        shards=tuple(shard for shard, _ in described),
        index=hash_file(folder / INDEX),
        source=Component("fake", {}),
        provenance={},
    )
    manifest.save(folder)
    return ShardSet.open(folder)


class FakeSource:
    """Random pictures, of which each one's first pixel is its number."""

    def __init__(self, config: FakeSourceConfig) -> None:
        self.config = config
        self.class_names = ("even", "odd") if config.labels else ()
        self.provenance = {"name": "fake"}
        self.read = 0

    def count(self, split: Split) -> int:
        return self.config.train if split == "train" else self.config.test

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        self.read += 1
        if self.read == int(os.environ.get(DIES_AT, -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        size = self.config.size + (number == self.config.odd_one)
        rng = np.random.default_rng([number, split == "train"])
        picture = rng.integers(0, 256, (size, self.config.size, self.config.channels), dtype=np.uint8)
        picture[0, 0, 0] = number % 256
        return picture, number % 2 if self.config.labels else -1


@attrs.frozen(kw_only=True)
class FakeSourceConfig(SourceConfig):
    train: int = 50
    test: int = 11
    size: int = 8
    channels: int = 1
    labels: bool = True
    name: str = "a"
    odd_one: int = -1

    def build(self) -> Source:
        return FakeSource(self)


class MomentsTokenizer:
    """Stores a mean (the pixels) and a deviation of 1/8 in half precision."""

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        height, width, channels = picture_shape
        shape = (channels, height, width)
        return LatentSpec("moments", shape, "float16", (2.0,), (-1.0,), moments=True, weights="0" * 64)

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        mean = (pictures_BHWC.transpose(0, 3, 1, 2) / 256).astype(np.float32)
        return np.concatenate([mean, np.full_like(mean, 0.125)], 1)

    def decode(self, x: Any) -> np.ndarray:
        pictures: np.ndarray = ((x + 1) * 128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        return pictures


@attrs.frozen(kw_only=True)
class MomentsTokenizerConfig(TokenizerConfig):
    def build(self) -> Tokenizer:
        return MomentsTokenizer()


def table(path: Path, source: FakeSourceConfig | None = None, **changes: Any) -> DataTable:
    """A data table with the fake source."""
    seats: dict[str, Any] = {
        "source": Seat("fake", source or FakeSourceConfig()),
        "tokenizer": Seat("pixels", PixelTokenizerConfig()),
        "shard_size": 20,
    }
    return DataTable(path=str(path), **(seats | changes))
