"""What is known of the samples that rows were made of, a number each, in files beside the rows.

numbers  which samples were chosen, ascending
labels   their classes, -1 for none
Shapes: N samples of a segment.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

from genmem_bank.storage.card import Segment
from genmem_bank.storage.tensors import map_tensors, write_tensors

Column = Literal["numbers", "labels"]


def write_column(folder: Path, name: Column, value_N: np.ndarray) -> str:
    """Store the whole numbers (N,) of a segment's samples; the name of the file."""
    digest = hashlib.sha256(np.ascontiguousarray(value_N, "<i8").tobytes()).hexdigest()
    file = f"{name}-{digest[:16]}.safetensors"
    write_tensors(folder / file, {name: ("I64", value_N)})
    return file


def map_column(folder: Path, segment: Segment, name: Column) -> np.ndarray | None:
    """The numbers (N,) int64 of a segment's samples as a memory map; None where it has no such file.

    Raises:
        ValueError: A damaged or missing file.
    """
    samples = segment.origin.samples
    file = None if samples is None else getattr(samples, name)
    if samples is None or file is None:
        return None
    return map_tensors(folder / file, {name: ("I64", (samples.count,))})[name]
