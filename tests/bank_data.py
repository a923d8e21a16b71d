"""For tests: a prepared data set that holds one feature, and banks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genmem.contracts import Batch, Facts
from genmem_bank import SvdBankConfig
from genmem_bank.conditioning.store import SvdBank

FACTS = Facts(sample_shape=(1, 2, 2), output_channels=1)


@attrs.frozen
class Features:
    """A `DatasetFolder` with the feature "enc" of its training samples."""

    path: Path
    rows: np.ndarray
    name: str = "made up"
    mirrored: np.ndarray | None = None
    label_N: np.ndarray | None = None

    @property
    def views(self) -> int:
        """2 where there are mirrored rows."""
        return 1 if self.mirrored is None else 2

    def count(self, split: str) -> int:
        """Samples."""
        return len(self.rows)

    def labels(self, split: str) -> np.ndarray:
        """Classes; none unless they are given."""
        return np.full(len(self.rows), -1) if self.label_N is None else self.label_N

    def feature(self, split: str, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """A part."""
        assert (split, name) == ("train", "enc")
        rows = self.mirrored if view else self.rows
        assert rows is not None
        return rows[start:stop].astype(np.float32)

    def provenance(self) -> dict[str, Any]:
        """As a data set's: nested, with tuples."""
        return {"source": self.name, "encoders": {"enc": ("linear", 1)}, "states": {"enc": "none"}}


def decaying(count: int = 60, width: int = 12, seed: int = 0) -> np.ndarray:
    """Features with a mean and a falling spectrum."""
    draws = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(draws.normal(size=(width, width)))
    scale = 2.0 ** -np.arange(width)
    rows = 3.0 + draws.normal(size=(count, width)) * scale @ rotation.T
    return np.asarray(rows, np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """f / ‖f‖ in float64."""
    rows = rows.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def configure(folder: Path, **changes: Any) -> SvdBankConfig:
    """Settings of a bank in `folder`/bank."""
    settings: dict[str, Any] = {"path": str(folder / "bank"), "encoder": "enc", "rank": 12, "mask": "none"}
    return SvdBankConfig(**settings | changes)


def make(folder: Path, rows: np.ndarray, **changes: Any) -> SvdBank:
    """Prepare and open a bank of these rows."""
    config = configure(folder, **changes)
    config.prepare(Features(folder, rows))
    return config.build(FACTS)


def batch_of(index: np.ndarray | list[int], features: np.ndarray | None = None) -> Batch:
    """A batch of these samples."""
    index_B = torch.as_tensor(np.asarray(index), dtype=torch.int64)
    zeros, nothing = torch.zeros_like(index_B), torch.zeros(len(index_B), 1, 2, 2)
    named = {} if features is None else {"enc": torch.from_numpy(np.asarray(features, np.float32))}
    return Batch(nothing, zeros, index_B, zeros, zeros, named, {})
