"""CIFAR-10's official binary files: records of a label and 3,072 pixels, colour by colour.

Shapes: N records, H W C picture.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from genmem.contracts import Split
from genmem_sources.configs import CifarConfig
from genmem_sources.files import Files, open_files

RECORD = 3073
FILES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar:
    """The records of six files, from their folder or from the archive they are published in."""

    class_names = NAMES

    def __init__(self, config: CifarConfig) -> None:
        """Read them.

        Raises:
            FileNotFoundError, ValueError: A file that is missing, or is no whole number of records.
        """
        self._config = config
        files = open_files(Path(config.path))
        self._records: dict[Split, np.ndarray] = {
            split: np.concatenate([_read_records(files, name) for name in names])
            for split, names in FILES.items()
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the pictures come from, and the hash of every record in order."""
        digest = hashlib.sha256(b"".join(records.tobytes() for records in self._records.values()))
        return {
            "name": "CIFAR-10",
            "citation": "A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images.",
            "licence": self._config.licence or "none stated by its authors; they ask to be cited",
            "sha256": digest.hexdigest(),
        }

    def count(self, split: Split) -> int:
        """Records in this split."""
        return len(self._records[split])

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (32, 32, 3) and the class."""
        record = self._records[split][number]
        return np.ascontiguousarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)), int(record[0])


def _read_records(files: Files, wanted: str) -> np.ndarray:
    """(N, 3073) uint8."""
    found = [name for name in files.sizes if PurePosixPath(name).name == wanted]
    if not found:
        raise FileNotFoundError(f"{files.path}: holds no {wanted}")
    data = np.frombuffer(files.read(found[0]), np.uint8)
    where = f"{files.path}: {found[0]}"
    if len(data) % RECORD or not len(data):
        raise ValueError(f"{where}: {len(data)} bytes are no whole number of records of {RECORD}; truncated?")
    records = data.reshape(-1, RECORD)
    if (records[:, 0] >= len(NAMES)).any():
        number = int((records[:, 0] >= len(NAMES)).argmax())
        raise ValueError(f"{where}: record {number} has class {records[number, 0]}, there are {len(NAMES)}")
    return records
