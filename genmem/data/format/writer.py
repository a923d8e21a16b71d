"""Ordinary WebDataset tars, complete or absent, the same bytes for the same samples.

Shapes: n samples of one shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from webdataset import TarWriter

from genmem.data.errors import DataError
from genmem.data.files import replace_file
from genmem.data.format.fields import LABEL, SAMPLE, member_of
from genmem.data.format.manifest import Form
from genmem.data.format.npy import npy_header
from genmem.data.format.scanning import describe_shard

__all__ = ["describe_shard", "key_of", "write_shard"]


def key_of(number: int) -> str:
    """The key of a sample: its number in manifest order, zero-padded."""
    return f"{number:08d}"


def write_shard(
    path: Path, first: int, arrays: Mapping[str, np.ndarray], label_n: np.ndarray | None = None
) -> None:
    """Write n samples as a tar at `path`.

    Args:
        path: Its final name; taken only when the file is whole.
        first: Number of the first sample.
        arrays: {field: (n, …)}; "x" becomes the member `x.npy`, "x.mirror" `x.mirror.npy`.
        label_n: Class numbers; None where the set has none.

    Raises:
        DataError: Arrays of unequal length, or none.
    """
    columns = dict(arrays) if label_n is None else {**arrays, LABEL: label_n}
    lengths = {field: len(values) for field, values in columns.items()}
    if SAMPLE not in arrays or not lengths[SAMPLE] or len(set(lengths.values())) > 1:
        raise DataError(f"{path}: expected fields of one length above 0, x among them; got {lengths}")
    headers = {field: npy_header(Form(v.dtype.name, v.shape[1:])) for field, v in arrays.items()}
    # Without a fixed time and user the same samples would give other bytes every time.
    with replace_file(path) as file, TarWriter(file, user="genmem", encoder=False, mtime=0) as tar:
        for i in range(lengths[SAMPLE]):
            sample: dict[str, str | bytes] = {"__key__": key_of(first + i)}
            sample |= {member_of(f): headers[f] + values[i].tobytes() for f, values in arrays.items()}
            if label_n is not None:
                sample[LABEL] = str(int(label_n[i])).encode()
            tar.write(sample)
