"""A manifest or an index that is missing is made from the tars, once, by one of the processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from filelock import FileLock

from genmem.data.errors import DataError
from genmem.data.files import hash_file
from genmem.data.format.fields import MIRRORED, SAMPLE, TOKENS, member_of
from genmem.data.format.index import INDEX, Index, join_indexes, save_index
from genmem.data.format.inspection import check_index, check_size
from genmem.data.format.manifest import MANIFEST, Feature, Manifest, Shard
from genmem.data.format.manifest_file import DESCRIPTION, load_description
from genmem.data.format.npy import split_header
from genmem.data.format.scanning import describe_shard, scan_shard

_NPY = ".npy"


def ensure_index(folder: Path, manifest: Manifest) -> None:
    """Make index.npz of a split folder that has none.

    Raises:
        DataError: A shard that is not what the manifest says.
    """
    if (folder / INDEX).is_file():
        return
    with FileLock(folder / ".lock"):
        if not (folder / INDEX).is_file():
            save_index(join_indexes([_scan(folder / s.name, s) for s in manifest.shards]), folder)


def ensure_manifest(folder: Path) -> None:
    """Make manifest and index of a folder of tars that something else wrote, and that is described.

    Raises:
        DataError: Tars that are damaged or differ, a description that is wrong or does not fit.
    """
    if not can_adopt(folder):
        return
    with FileLock(folder / ".lock"):
        if can_adopt(folder):
            _adopt(folder)


def can_adopt(folder: Path) -> bool:
    """Whether a split folder has tars, no manifest, and a description beside it."""
    described = (folder.parent / DESCRIPTION).is_file() and not (folder / MANIFEST).is_file()
    return described and any(folder.glob("*.tar"))


def _scan(path: Path, shard: Shard) -> Index:
    check_size(path, shard.bytes)
    if (found := hash_file(path)) != shard.sha256:
        raise DataError(
            f"{path}: sha256 {found}, {MANIFEST} says {shard.sha256}: damaged, or another file; "
            f"restore it: {INDEX} is missing and can be made from sound shards only"
        )
    return scan_shard(path)


def _adopt(folder: Path) -> None:
    description = load_description(folder.parent / DESCRIPTION)
    described = [describe_shard(path) for path in sorted(folder.glob("*.tar"))]
    index = join_indexes([index for _, index in described])
    save_index(index, folder)
    manifest = Manifest(
        **description,
        split=folder.name,
        views=2 if member_of(SAMPLE, 1) in index.fields else 1,
        features=_find_features(folder, index, description["encoders"]),
        shards=tuple(shard for shard, _ in described),
        index=hash_file(folder / INDEX),
    )
    check_index(folder, manifest, index)
    manifest.save(folder)


def _find_features(folder: Path, index: Index, encoders: dict[str, object]) -> dict[str, Feature]:
    """Every array but the sample's is a feature, of the encoder whose name it has."""
    features = {}
    for member, places in index.fields.items():
        name = member.removesuffix(_NPY)
        if not member.endswith(_NPY) or name.endswith(MIRRORED) or name == SAMPLE:
            continue
        encoder = name.removesuffix(TOKENS)
        if encoder not in encoders:
            raise DataError(
                f"{folder.parent / DESCRIPTION}: encoders: the shards hold the feature {name!r}, and "
                f"no encoder is named {encoder!r}"
            )
        padding = bytes(int(places.size_N[0]) - len(places.header))
        _, form = split_header(memoryview(places.header + padding), f"{folder}: {member}")
        features[name] = Feature(dtype=np.dtype(form.dtype).name, shape=form.shape, encoder=encoder)
    return features
