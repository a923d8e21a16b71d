"""What must hold before a split is read: its shards, index and manifest tell the same story.

Shapes: N samples in manifest order.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from genmem.data.errors import DamagedFile, DataError
from genmem.data.format.fields import SAMPLE, member_of
from genmem.data.format.index import INDEX, Index
from genmem.data.format.manifest import MANIFEST, Form, Manifest
from genmem.data.format.npy import split_header

BLOCK = 512
_REMEDY = "restore it, or delete the set and prepare it again"
SKIP = 'data.damage = "skip" trains without it'


def check_size(path: Path, expected: int) -> None:
    """A shard has the size that the manifest says.

    Raises:
        DamagedFile: It is missing, or has another.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DamagedFile(f"{path}: missing, though {MANIFEST} lists it; {_REMEDY}; {SKIP}") from None
    if found != expected:
        raise DamagedFile(
            f"{path}: {found} bytes, {MANIFEST} says {expected}: truncated, or another file; "
            f"{_REMEDY}; {SKIP}"
        )


def check_index(folder: Path, manifest: Manifest, index: Index) -> None:
    """The index places every field of every sample inside its shard, in the manifest's form.

    Raises:
        DataError: What does not fit; shard, sample and field are named.
    """
    if len(index) != manifest.samples:
        raise DataError(
            f"{folder / INDEX}: {len(index)} samples, {MANIFEST} says {manifest.samples}; {_REMEDY}"
        )
    if not len(index):
        return
    _check_limits(folder, manifest, index)
    for field in (SAMPLE, *manifest.features):
        for view in range(manifest.views):
            _check_form(folder, manifest, index, field, view)
    _check_labels(folder, manifest, index)


def name_sample(folder: Path, manifest: Manifest, index: Index, number: int) -> str:
    """The shard and the key of a sample, for messages."""
    ends = np.cumsum([shard.samples for shard in manifest.shards])
    shard = manifest.shards[int(np.searchsorted(ends, number, side="right"))]
    return f"{folder / shard.name}: sample {index.key_N[number].decode()!r}"


def record_size(form: Form) -> int:
    """Bytes of one sample's values."""
    return math.prod(form.shape) * np.dtype(form.dtype).itemsize


def _check_limits(folder: Path, manifest: Manifest, index: Index) -> None:
    counts = [shard.samples for shard in manifest.shards]
    limit_N = np.repeat([shard.bytes for shard in manifest.shards], counts)
    for member, places in index.fields.items():
        # A header of one block stands in front of every member.
        outside_N = (places.offset_N < BLOCK) | (places.size_N < 0)
        outside_N |= places.size_N > limit_N - places.offset_N
        if outside_N.any():
            where = name_sample(folder, manifest, index, int(outside_N.argmax()))
            raise DataError(f"{where}: {member}: {INDEX} places it outside the shard; {_REMEDY}")


def _check_form(folder: Path, manifest: Manifest, index: Index, field: str, view: int) -> None:
    member, form = member_of(field, view), manifest.form(field)
    if member not in index.fields:
        raise DataError(f"{folder}: field {member!r} is missing; the shards have {sorted(index.fields)}")
    places, size = index.fields[member], record_size(form)
    expected = len(places.header) + size
    wrong_N = places.size_N != expected
    if wrong_N.any():
        number = int(wrong_N.argmax())
        raise DataError(
            f"{name_sample(folder, manifest, index, number)}: {member}: {places.size_N[number]} bytes, "
            f"{form.dtype} {form.shape} takes {expected}"
        )
    _, found = split_header(memoryview(places.header + bytes(size)), f"{folder / INDEX}: {member}")
    if np.dtype(found.dtype) != np.dtype(form.dtype) or found.shape != form.shape:
        raise DataError(
            f"{folder}: {member}: the shards hold {found.dtype} {found.shape}, "
            f"{MANIFEST} says {form.dtype} {form.shape}; {_REMEDY}"
        )


def _check_labels(folder: Path, manifest: Manifest, index: Index) -> None:
    classes = len(manifest.class_names)
    lowest = 0 if classes else -1
    wrong_N = (index.label_N < lowest) | (index.label_N >= max(classes, lowest + 1))
    if wrong_N.any():
        number = int(wrong_N.argmax())
        raise DataError(
            f"{name_sample(folder, manifest, index, number)}: class {index.label_N[number]}, "
            f"{MANIFEST} names {classes} classes"
        )
