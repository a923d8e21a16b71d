"""Classes of the samples that rows were made of, in a file of their own beside the rows.

Shapes: N samples of a segment.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from genmem_bank.card import Segment
from genmem_bank.tensors import map_tensors, write_tensors


def write_labels(folder: Path, label_N: np.ndarray) -> str:
    """Store the classes (N,) of a segment's samples, -1 for none; the name of the file."""
    digest = hashlib.sha256(np.ascontiguousarray(label_N, "<i8").tobytes()).hexdigest()
    file = f"labels-{digest[:16]}.safetensors"
    write_tensors(folder / file, {"labels": ("I64", label_N)})
    return file


def map_labels(folder: Path, segment: Segment) -> np.ndarray | None:
    """The classes (N,) int64 of a segment's samples as a memory map; None where they are not known.

    Raises:
        ValueError: A damaged or missing file.
    """
    samples = segment.origin.samples
    if samples is None or samples.labels is None:
        return None
    return map_tensors(folder / samples.labels, {"labels": ("I64", (samples.count,))})["labels"]
