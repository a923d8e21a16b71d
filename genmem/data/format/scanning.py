"""Building the index of a tar from its headers, with or without a manifest."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmem.data.errors import DataError
from genmem.data.files import hash_file
from genmem.data.format.fields import LABEL
from genmem.data.format.index import Index, Places
from genmem.data.format.manifest import Shard
from genmem.data.format.npy import split_header
from genmem.data.format.tar import Member, read_members

# WebDataset ends a key at the first dot, so a key with a dot would merge with its neighbour.
_MEMBER = re.compile(r"(?P<key>[A-Za-z0-9_][A-Za-z0-9_/+=-]*)\.(?P<field>[^/]+)")
_FIELD = re.compile(r"cls|json|txt|jpg|jpeg|png|webp|[A-Za-z_][A-Za-z0-9_-]*(\.tokens)?(\.mirror)?\.npy")
_LABEL = re.compile(rb"-?[0-9]{1,18}")

Samples = dict[str, dict[str, Member]]


def scan_shard(path: Path) -> Index:
    """The index of one tar; every member is read once, for its checksum.

    Raises:
        DataError: A damaged tar; keys or fields that are not valid, double, missing or uneven.
    """
    data = np.memmap(path, mode="r").data if path.stat().st_size else memoryview(b"")
    samples: Samples = {}
    last = ""
    for member in read_members(data, str(path)):
        key, field = _split_name(member.name, path)
        if key != last and key in samples:
            raise DataError(
                f"{path}: sample {key!r}: its members do not stand together, or its key is double"
            )
        if field in samples.setdefault(key, {}):
            raise DataError(f"{path}: sample {key!r}: field {field!r} is there twice")
        samples[key][field] = member
        last = key
    _check_fields(samples, path)
    return _build_index(samples, data, path)


def describe_shard(path: Path) -> tuple[Shard, Index]:
    """The manifest entry and the index of a tar, from the tar alone.

    Raises:
        DataError: As `scan_shard`.
    """
    index = scan_shard(path)
    shard = Shard(
        name=path.name,
        samples=len(index),
        bytes=path.stat().st_size,
        sha256=hash_file(path),
        fields=tuple(index.fields),
    )
    return shard, index


def _split_name(name: str, path: Path) -> tuple[str, str]:
    match = _MEMBER.fullmatch(name.removeprefix("./"))
    if match is None:
        raise DataError(
            f"{path}: member {name!r}: expected a key of letters, digits, _ - and /, a dot, a field"
        )
    if not _FIELD.fullmatch(match["field"]):
        raise DataError(
            f"{path}: member {name!r}: {match['field']!r} is no field that is read (name.npy, cls, json, "
            "txt, jpg, png, webp); a key must not hold a dot"
        )
    return match["key"], match["field"]


def _check_fields(samples: Samples, path: Path) -> None:
    if not samples:
        raise DataError(f"{path}: holds no samples")
    expected = next(iter(samples.values())).keys()
    for key, members in samples.items():
        if members.keys() != expected:
            raise DataError(
                f"{path}: sample {key!r}: has {sorted(members)}, the first sample has {sorted(expected)}"
            )


def _build_index(samples: Samples, data: memoryview, path: Path) -> Index:
    fields = sorted(next(iter(samples.values())))
    places = {field: _place_field(field, samples, data, path) for field in fields}
    labels = [-1] * len(samples)
    if LABEL in fields:
        labels = [_read_label(_record(data, m[LABEL]), path, key) for key, m in samples.items()]
    keys = np.array([key.encode() for key in samples])
    return Index(keys, np.array(labels, np.int64), places)


def _place_field(field: str, samples: Samples, data: memoryview, path: Path) -> Places:
    members = [fields[field] for fields in samples.values()]
    records = [_record(data, member) for member in members]
    header = _common_header(field, list(samples), records, path) if field.endswith(".npy") else b""
    return Places(
        np.array([member.offset for member in members], np.int64),
        np.array([member.size for member in members], np.int64),
        np.array([zlib.crc32(record) for record in records], np.uint32),
        header,
    )


def _common_header(field: str, keys: list[str], records: Sequence[memoryview], path: Path) -> bytes:
    header, form = split_header(records[0], f"{path}: sample {keys[0]!r}: {field}")
    for key, record in zip(keys, records, strict=True):
        if record[: len(header)] != header or len(record) != len(records[0]):
            where = f"{path}: sample {key!r}: {field}"
            _, other = split_header(record, where)
            raise DataError(
                f"{where}: {other.dtype} {other.shape}, the first sample's is {form.dtype} {form.shape}"
            )
    return header


def _read_label(record: memoryview, path: Path, key: str) -> int:
    text = bytes(record[:20])
    if not _LABEL.fullmatch(text):
        raise DataError(f"{path}: sample {key!r}: {LABEL}: expected a class number, found {text!r}")
    return int(text)


def _record(data: memoryview, member: Member) -> memoryview:
    return data[member.offset : member.offset + member.size]
