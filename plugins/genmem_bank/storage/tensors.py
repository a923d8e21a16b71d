"""Arrays on disk: safetensors files written as they come and read as memory maps.

The format is simple enough to write in pieces, which the safetensors package does not offer: eight
bytes of header length, a JSON header with dtype, shape and offsets of each tensor, then the tensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

Dtype = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""Storage names and what a memory map sees; NumPy has no bf16, so there it is 16 bits."""

STORED: dict[Dtype, str] = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


def narrow(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Numbers as they are stored: fp32, fp16, or the 16 bits of bf16; to nearest, ties to even."""
    single = np.ascontiguousarray(values, "<f4")
    if dtype != "bf16":
        return single.astype(DTYPES[STORED[dtype]], copy=False)
    bits = single.view("<u4")
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, "<u2")


def widen(stored: np.ndarray) -> np.ndarray:
    """fp32 from the stored form, in memory of its own."""
    if stored.dtype == DTYPES["BF16"]:
        return np.asarray(stored.astype("<u4") << 16).view(np.float32)
    return np.array(stored, np.float32)


def header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The head of a file whose tensors, {name: (storage name, shape)}, follow in this order."""
    entries: dict[str, dict[str, object]] = {}
    start = 0
    for name, (dtype, shape) in tensors.items():
        stop = start + DTYPES[dtype].itemsize * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """Write a file of {name: (storage name, values)} so that it is there whole or not at all."""
    arrays = [np.ascontiguousarray(values, DTYPES[dtype]) for dtype, values in tensors.values()]
    head = header({name: (dtype, values.shape) for name, (dtype, values) in tensors.items()})
    replace(path, [head, *(array.tobytes() for array in arrays)])


def map_tensors(path: Path, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """The tensors {name: (storage name, shape)} of a file as memory maps.

    Raises:
        ValueError: A file that is missing, cut short, longer than it says, no safetensors file, or
            one that holds other tensors; the message names it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(header(expected)))
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: damaged or missing ({error})") from error
    if head != header(expected):
        raise ValueError(f"{path}: damaged or missing (its head does not say {_describe(expected)})")
    whole = len(head) + sum(DTYPES[d].itemsize * math.prod(s) for d, s in expected.values())
    if size != whole:
        raise ValueError(f"{path}: damaged or missing ({size:,} bytes, expected {whole:,})")
    mapped: dict[str, np.ndarray] = {}
    start = len(head)
    for name, (dtype, shape) in expected.items():
        mapped[name] = np.memmap(path, DTYPES[dtype], "r", start, shape)
        start += mapped[name].nbytes
    return mapped


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


def _describe(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in tensors.items())
