"""Safetensors shards of latents, as LightningDiT's extraction writes them and GMem's extends them.

latents (n, C, H, W), latents_flip, labels (n,); GMem adds cls_tokens, representations and their flips.
Shapes: B samples, N of all shards, n of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from genmem.contracts import LatentSpec, Split, Stored
from genmem_sources.configs import LatentSafetensorsConfig
from genmem_sources.holding_out import count_held, hold_out

_LATENTS, _LABELS, _FLIP = "latents", "labels", "_flip"
_DTYPES = {"F32": "float32", "F16": "float16"}


class LatentShards:
    """The samples of every .safetensors file of a folder, ordered by the files' names."""

    def __init__(self, config: LatentSafetensorsConfig) -> None:
        """Read headers and labels.

        Raises:
            ValueError: No such files, one without latents or labels, or with others than the first.
        """
        self._config, self._path = config, Path(config.path)
        self._shards = [_Shard(path) for path in sorted(self._path.glob("*.safetensors"))]
        if not self._shards:
            raise ValueError(f"{self._path}: holds no .safetensors files")
        first = self._shards[0]
        for shard in self._shards:
            if shard.form != first.form:
                raise ValueError(f"{shard.path}: latents of {shard.form}, the first shard's are {first.form}")
        self._labels = np.concatenate([shard.label_n for shard in self._shards])
        self._starts = np.cumsum([0] + [len(shard.label_n) for shard in self._shards])
        self.class_names = _name_classes(config, int(self._labels.max()) + 1)
        names = [f"{shard.path.name}:{i}" for shard in self._shards for i in range(len(shard.label_n))]
        held_N = hold_out(names, self._labels, count_held(config.held_out, len(names)))
        self._splits: dict[Split, np.ndarray] = {
            "train": np.flatnonzero(~held_N),
            "test": np.flatnonzero(held_N),
        }
        dtype, shape, _ = first.form
        self.spec = LatentSpec("", shape, dtype, scale=config.scale, shift=config.shift)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """H, W, 3."""
        _, height, width = self.spec.shape
        return self._config.downsample * height, self._config.downsample * width, 3

    @property
    def provenance(self) -> dict[str, Any]:
        """Names and sizes of the shards, hashed, and the licence that was given."""
        lines = "".join(f"{shard.path.name}\t{shard.path.stat().st_size}\n" for shard in self._shards)
        return {
            "name": self._path.name,
            "latents": len(self._labels),
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "licence": self._config.licence or "not stated",
        }

    def count(self, split: Split) -> int:
        """Samples in this split."""
        return len(self._splits[split])

    def stored(self, split: Split, start: int, stop: int, features: Sequence[str] = ()) -> Stored:
        """Latents (B, C, H, W) and features, plain and, where the shards have them, flipped."""
        numbers = self._splits[split][start:stop]
        wanted = {"x": _LATENTS, **{name: name for name in features}}
        _, _, flipped = self._shards[0].form
        suffixes = ("", _FLIP) if flipped else ("",)
        views = tuple(
            {field: self._read(name + suffix, numbers) for field, name in wanted.items()}
            for suffix in suffixes
        )
        return Stored(views, self._labels[numbers])

    def _read(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """(B, …) of one tensor."""
        shard_B = np.searchsorted(self._starts, numbers, side="right") - 1
        parts = [
            self._shards[shard].read(name, numbers[shard_B == shard] - self._starts[shard])
            for shard in np.unique(shard_B).tolist()
        ]
        return np.concatenate(parts)


class _Shard:
    """One file, opened; its arrays stay on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file: Any = safe_open(path, framework="np")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
        self._file, self._names = file, set(file.keys())
        if not {_LATENTS, _LABELS} <= self._names:
            raise ValueError(
                f"{path}: expected tensors {_LATENTS!r} and {_LABELS!r}, found {sorted(self._names)}"
            )
        self.label_n = self._read_labels()
        self.form = self._read_form(_LATENTS)
        flip = self._names & {_LATENTS + _FLIP}
        if flip and self._read_form(*flip) != self.form:
            raise ValueError(f"{path}: {_LATENTS} and {_LATENTS + _FLIP} differ in type or shape")

    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        """These ascending rows; those between them are read too, and left out."""
        if name not in self._names:
            raise ValueError(f"{self.path}: no tensor {name!r}; there are {sorted(self._names)}")
        low, high = int(rows[0]), int(rows[-1]) + 1
        found: np.ndarray = self._file.get_slice(name)[low:high][rows - low]
        return found

    def _read_labels(self) -> np.ndarray:
        labels = np.asarray(self._file.get_tensor(_LABELS))
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels) or labels.min() < 0:
            raise ValueError(
                f"{self.path}: {_LABELS}: expected (n,) class numbers, found {labels.dtype} {labels.shape}"
            )
        return labels.astype(np.int64)

    def _read_form(self, name: str) -> tuple[str, tuple[int, int, int], bool]:
        """Type and shape of one sample, and whether its mirrored twin is there too."""
        found = self._file.get_slice(name)
        dtype, shape = found.get_dtype(), tuple(found.get_shape())
        if dtype not in _DTYPES or len(shape) != 4 or shape[0] != len(self.label_n):
            raise ValueError(
                f"{self.path}: {name}: expected F32 or F16 ({len(self.label_n)}, C, H, W), "
                f"found {dtype} {shape}"
            )
        return _DTYPES[dtype], (shape[1], shape[2], shape[3]), _LATENTS + _FLIP in self._names


def _name_classes(config: LatentSafetensorsConfig, count: int) -> tuple[str, ...]:
    if config.class_names and len(config.class_names) < count:
        raise ValueError(f"class_names has {len(config.class_names)} names, the labels go up to {count - 1}")
    return config.class_names or tuple(str(number) for number in range(count))
