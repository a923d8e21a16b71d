"""The full check of a split: every byte against its hash, every damaged sample by name."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genmem.data.errors import DataError
from genmem.data.files import hash_file
from genmem.data.format.index import INDEX, Index, load_index
from genmem.data.format.inspection import check_index
from genmem.data.format.manifest import MANIFEST, Shard
from genmem.data.format.manifest_file import load_manifest
from genmem.data.states import state_path


class Damage(NamedTuple):
    """One thing that is wrong."""

    file: Path

    sample: str
    """Key of the sample; empty where the damage lies in no sample, or in all."""

    problem: str

    def __str__(self) -> str:
        sample = f" sample {self.sample!r}:" if self.sample else ""
        return f"{self.file}:{sample} {self.problem}"


def verify_set(path: Path, report: Callable[[str, int, int], None] | None = None) -> list[Damage]:
    """Everything that is wrong with both splits and with what encoders learned.

    Raises:
        DataError: A manifest or an index cannot be read.
    """
    damages: list[Damage] = []
    for split in ("train", "test"):
        damages += verify_split(path / split, report)
    for name, encoder in load_manifest(path / "train").encoders.items():
        state = state_path(path, name)
        if state.is_file() and (found := hash_file(state)) != encoder.state:
            damages.append(Damage(state, "", f"sha256 {found}, {MANIFEST} says {encoder.state}"))
    return damages


def verify_split(folder: Path, report: Callable[[str, int, int], None] | None = None) -> list[Damage]:
    """Everything that is wrong with a split; empty where it is sound.

    Args:
        folder: The split's.
        report: Called with what is being done, shards done, and shards in all.

    Raises:
        DataError: The manifest or the index cannot be read.
    """
    manifest, index = load_manifest(folder), load_index(folder)
    damages = []
    if (found := hash_file(folder / INDEX)) != manifest.index:
        damages.append(Damage(folder / INDEX, "", f"sha256 {found}, {MANIFEST} says {manifest.index}"))
    first = 0
    for i, shard in enumerate(manifest.shards):
        damages += _verify_shard(folder / shard.name, shard, index, first)
        first += shard.samples
        if report is not None:
            report("verifying", i + 1, len(manifest.shards))
    if not damages:
        try:
            check_index(folder, manifest, index)
        except DataError as error:
            damages.append(Damage(folder, "", str(error)))
    return damages


def _verify_shard(path: Path, shard: Shard, index: Index, first: int) -> list[Damage]:
    if not path.is_file():
        return [Damage(path, "", f"missing, though {MANIFEST} lists it")]
    found, size = hash_file(path), path.stat().st_size
    if found == shard.sha256 and size == shard.bytes:
        return []
    data = np.memmap(path, mode="r").data if size else memoryview(b"")
    damages = list(_find_samples(path, data, index, range(first, min(first + shard.samples, len(index)))))
    if size != shard.bytes:
        damages.insert(
            0, Damage(path, "", f"{size} bytes, {MANIFEST} says {shard.bytes}: truncated, or another file")
        )
    if not damages:
        problem = f"sha256 {found}, {MANIFEST} says {shard.sha256}; its samples are whole, a header is not"
        damages.append(Damage(path, "", problem))
    return damages


def _find_samples(path: Path, data: memoryview, index: Index, numbers: range) -> Iterator[Damage]:
    for number in numbers:
        for member, places in index.fields.items():
            offset, size = int(places.offset_N[number]), int(places.size_N[number])
            if zlib.crc32(data[offset : offset + size]) != places.crc_N[number]:
                yield Damage(path, index.key_N[number].decode(), f"{member}: its checksum differs")
