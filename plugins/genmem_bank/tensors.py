"""Arrays on disk: safetensors files written as they come and read as memory maps.

The format is simple enough to write in pieces, which the safetensors package does not offer: eight
bytes of header length, a JSON header with dtype, shape and offsets of each tensor, then the tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

Dtype = Literal["fp32", "bf16"]

DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "BF16": np.dtype("<u2")}
"""Storage names and what a memory map sees; NumPy has no bf16, so there it is 16 bits."""

STORED: dict[Dtype, str] = {"fp32": "F32", "bf16": "BF16"}


def narrow(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Numbers as they are stored: fp32, or the 16 bits of bf16, to nearest with ties to even."""
    single = np.ascontiguousarray(values, "<f4")
    if dtype == "fp32":
        return single
    bits = single.view("<u4")
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, "<u2")


def widen(stored: np.ndarray) -> np.ndarray:
    """fp32 from the stored form, in memory of its own."""
    if stored.dtype == DTYPES["F32"]:
        return np.array(stored, np.float32)
    return np.asarray(stored.astype("<u4") << 16).view(np.float32)


def header(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The head of a file whose tensors, {name: (storage name, shape)}, follow in this order."""
    entries: dict[str, dict[str, object]] = {}
    start = 0
    for name, (dtype, shape) in tensors.items():
        stop = start + DTYPES[dtype].itemsize * int(np.prod(shape))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file as a memory map.

    Raises:
        ValueError: A file that is missing, cut short, or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        return {name: _map(path, 8 + length, entry) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged or missing ({error})") from error


def replace(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _map(path: Path, start: int, entry: dict[str, Any]) -> np.ndarray:
    offset = start + entry["data_offsets"][0]
    return np.memmap(path, DTYPES[entry["dtype"]], "r", offset, tuple(entry["shape"]))
