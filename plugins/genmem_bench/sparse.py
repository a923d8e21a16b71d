"""A large set that takes no room: an index of 1,000 shards whose files have a size and no content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

_BLOCK = 512


def spread(model: Path, folder: Path, shards: int) -> None:
    """Write a split of `shards` sparse copies of the only shard of the split `model`.

    What is read before the first sample is there: sizes, index, manifest, and the headers that say a
    shard is the one meant.
    """
    folder.mkdir(parents=True)
    manifest = json.loads((model / "manifest.json").read_text())
    (entry,) = manifest["shards"]
    with np.load(model / "index.npz") as stored:
        arrays = {
            name: value if name.startswith("header/") else np.tile(value, shards)
            for name, value in stored.items()
        }
        field = next(name for name in stored if name.startswith("offset/"))
        places = [int(stored[field][i]) - _BLOCK for i in (0, -1)]
    for number in range(shards):
        _write_hollow(model / entry["name"], folder / f"{number:06d}.tar", places)
    np.savez(folder / "index.npz", allow_pickle=False, **arrays)
    manifest["shards"] = [entry | {"name": f"{number:06d}.tar"} for number in range(shards)]
    manifest["samples"] *= shards
    manifest["index"] = hashlib.sha256((folder / "index.npz").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _write_hollow(model: Path, path: Path, places: list[int]) -> None:
    """A file as long as `model` that has its blocks at `places`, and holes elsewhere."""
    with model.open("rb") as source, path.open("wb") as target:
        for place in places:
            source.seek(place)
            target.seek(place)
            target.write(source.read(_BLOCK))
        target.truncate(os.fstat(source.fileno()).st_size)
