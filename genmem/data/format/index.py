"""The offset index: where each field of each sample lies, so that no header is read twice.

It is kept as index.npz beside the manifest: plain arrays, stored, never pickled.
Shapes: N samples in manifest order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from genmem.data.errors import DataError
from genmem.data.files import replace_file
from genmem.data.format.npy import split_header

INDEX = "index.npz"


@attrs.frozen(eq=False)
class Places:
    """One field of N samples."""

    offset_N: np.ndarray
    """int64: of the member's first byte in its tar."""

    size_N: np.ndarray
    """int64: bytes of the member."""

    crc_N: np.ndarray
    """uint32: CRC-32 of the member."""

    header: bytes
    """What every member begins with, in front of its values; empty where it is no npy."""


@attrs.frozen(eq=False)
class Index:
    """Every field of N samples."""

    key_N: np.ndarray
    """Bytes: the samples' keys in their tars."""

    label_N: np.ndarray
    """int64; -1 where there is no label."""

    fields: Mapping[str, Places]
    """By the suffix of their members: "x.npy", "cls", …"""

    def __len__(self) -> int:
        return len(self.key_N)


def join_indexes(indexes: Sequence[Index]) -> Index:
    """The index of shards in a row.

    Raises:
        DataError: Shards whose fields differ in name, type or shape.
    """
    if not indexes:
        return Index(np.zeros(0, "S1"), np.zeros(0, np.int64), {})
    first = indexes[0]
    for index in indexes[1:]:
        if _headers(index) != _headers(first):
            raise DataError(
                f"the shards that begin with samples {first.key_N[0].decode()!r} and "
                f"{index.key_N[0].decode()!r} differ in fields, types or shapes: "
                f"{sorted(first.fields)} and {sorted(index.fields)}"
            )
    return Index(
        np.concatenate([index.key_N for index in indexes]),
        np.concatenate([index.label_N for index in indexes]),
        {field: _join_places([index.fields[field] for index in indexes]) for field in first.fields},
    )


def _headers(index: Index) -> dict[str, bytes]:
    return {field: places.header for field, places in index.fields.items()}


def _join_places(places: Sequence[Places]) -> Places:
    return Places(
        np.concatenate([p.offset_N for p in places]),
        np.concatenate([p.size_N for p in places]),
        np.concatenate([p.crc_N for p in places]),
        places[0].header,
    )


def save_index(index: Index, folder: Path) -> None:
    """Write index.npz into a split folder: the same bytes for the same index."""
    arrays = {"key": index.key_N, "label": index.label_N}
    for field, places in index.fields.items():
        arrays[f"offset/{field}"] = places.offset_N
        arrays[f"size/{field}"] = places.size_N
        arrays[f"crc/{field}"] = places.crc_N
        arrays[f"header/{field}"] = np.frombuffer(places.header, np.uint8)
    with replace_file(folder / INDEX) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_index(folder: Path) -> Index:
    """Read a split folder's index.npz.

    Raises:
        DataError: A file that is missing or cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{path}: missing, though there is a manifest")
    try:
        arrays = _read_arrays(path)
        names = [name.removeprefix("offset/") for name in arrays if name.startswith("offset/")]
        fields = {name: _read_places(arrays, name) for name in names}
        return Index(arrays["key"], arrays["label"], fields)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise DataError(f"{path}: damaged: {error}; prepare the set again") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays, left = {}, path.stat().st_size
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            left -= info.file_size
            # Stored and apart, so that members cannot unfold into more than the file has.
            if info.compress_type != zipfile.ZIP_STORED or left < 0:
                raise DataError(f"{info.filename} is compressed or larger than its file")
            record = file.read(info)
            header, form = split_header(memoryview(record), info.filename, "iuS")
            values = np.frombuffer(record, form.dtype, offset=len(header))
            arrays[info.filename.removesuffix(".npy")] = values.reshape(form.shape)
    return arrays


def _read_places(arrays: Mapping[str, np.ndarray], field: str) -> Places:
    offset_N, size_N, crc_N = (arrays[f"{part}/{field}"] for part in ("offset", "size", "crc"))
    if not len(arrays["key"]) == len(arrays["label"]) == len(offset_N) == len(size_N) == len(crc_N):
        raise DataError(f"the arrays of {field!r} differ in length")
    return Places(offset_N, size_N, crc_N, arrays[f"header/{field}"].tobytes())
