"""A prepared data set: a folder with a training and a test split.

Shapes: B samples asked for, H W C picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genmem.contracts import Encoder, EncoderConfig, LatentSpec, Split, Tokenizer
from genmem.data.errors import DataError
from genmem.data.format.fields import SAMPLE, member_of
from genmem.data.format.manifest import MANIFEST, Component, Manifest
from genmem.data.format.rebuilding import can_adopt
from genmem.data.settings import describe_settings
from genmem.data.states import hash_state, load_state, state_path
from genmem.data.streaming.cache import Cache
from genmem.data.streaming.damage import find_sound
from genmem.data.streaming.latents import Restoration
from genmem.data.streaming.mirror import Mirror
from genmem.data.streaming.remote import is_remote
from genmem.data.streaming.shards import ShardSet
from genmem.recipe.data_table import DataTable

SPLITS: tuple[Split, ...] = ("train", "test")


def is_prepared(path: Path | str) -> bool:
    """Whether both splits are there, or can be taken over; a set at a URL is opened to find out."""
    if is_remote(str(path)):
        return True
    folders = [Path(path) / split for split in SPLITS]
    return all((folder / MANIFEST).is_file() or can_adopt(folder) for folder in folders)


def open_dataset(data: DataTable) -> Dataset:
    """The set that a recipe names, which must be prepared.

    Raises:
        DataError: What is missing, damaged or contradictory, by name.
    """
    cache = Cache(Path(data.cache).expanduser(), data.cache_bytes) if is_remote(data.path) else None
    return Dataset(data.path, check=data.check, tolerant=data.damage == "skip", cache=cache)


class Dataset:
    """The shards of a folder; implements `DatasetFolder`."""

    def __init__(
        self, path: Path | str, *, check: bool = False, tolerant: bool = False, cache: Cache | None = None
    ) -> None:
        """Open a prepared set.

        Args:
            path: The folder that holds `train/` and `test/`; its URL, if there is a cache.
            check: Compare every record read with its checksum.
            tolerant: Open it although training shards are missing.
            cache: Where the shards of a set at a URL are kept.

        Raises:
            DataError: What is missing, damaged or contradictory, by name.
        """
        self._tolerant = tolerant
        mirror = None if cache is None else Mirror(str(path), cache, SPLITS)
        self._path = Path(path) if mirror is None else mirror.folder
        self._shards: dict[Split, ShardSet] = {
            split: ShardSet.open(
                self._path / split,
                check=check,
                tolerant=tolerant and split == "train",
                storage=None if mirror is None else mirror.storage(split),
            )
            for split in SPLITS
        }
        self._check_splits()

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._path

    @property
    def spec(self) -> LatentSpec:
        """How x follows from what is stored."""
        return self.manifest("train").latent

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order; empty where there are no labels."""
        return self.manifest("train").class_names

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """H, W, C."""
        return self.manifest("train").picture_shape

    @property
    def views(self) -> int:
        """1, or 2 where mirrored twins are stored."""
        return self.manifest("train").views

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """Width D of every per-sample feature."""
        return {name: feature.shape[-1] for name, feature in self.manifest("train").features.items()}

    def manifest(self, split: Split) -> Manifest:
        """What a split holds."""
        return self._shards[split].manifest

    def shards(self, split: Split) -> ShardSet:
        """A split's samples as stored."""
        return self._shards[split]

    def count(self, split: Split) -> int:
        """Samples in the split."""
        return len(self._shards[split])

    def labels(self, split: Split) -> np.ndarray:
        """(N,) int64, in manifest order; -1 where there is no label."""
        return self._shards[split].index.label_N

    def sound(self, split: Split) -> np.ndarray:
        """int64: numbers of the samples that can be read: all, but for damage that is to be skipped."""
        shards = self._shards[split]
        return find_sound(shards) if self._tolerant and split == "train" else np.arange(len(shards))

    def feature(self, split: Split, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """(stop - start, …) float32: a feature of consecutive samples in one view, 0 plain, 1 mirrored.

        Raises:
            DataError: The set has no such feature.
            IndexError: It has no such samples, or not this view.
        """
        if name not in self.feature_widths:
            raise DataError(
                f"{self._path}: no feature {name!r}; there are {sorted(self.feature_widths)}: "
                f"add [data.encoder.{name}] and prepare the set again"
            )
        number_B = np.arange(start, stop)
        values = self._shards[split].read(name, number_B, np.full_like(number_B, view))
        return values.astype(np.float32, copy=False)

    def pictures(self, split: Split, numbers: Sequence[int] | np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
        """uint8 (B, H, W, C): these samples, plain view, decoded."""
        stored = self._shards[split].read("x", np.asarray(numbers, np.int64))
        return tokenizer.decode(Restoration(self.spec)(torch.from_numpy(stored)))

    def encoder(self, name: str, config: EncoderConfig) -> Encoder:
        """The encoder that made a feature, as it was fitted for this set.

        Raises:
            DataError: The set has no such encoder, one of other settings, or its state was changed.
        """
        fitted = self.manifest("train").encoders.get(name)
        if fitted is None:
            raise DataError(
                f"{self._path}: no encoder {name!r}; there are {sorted(self.manifest('train').encoders)}"
            )
        asked = describe_settings(config)
        if asked != fitted.settings:
            raise DataError(
                f"{self._path}: encoder {name!r} was fitted as {fitted.component}, asked for as "
                f"{Component(fitted.use, asked)}"
            )
        encoder = config.build()
        if config.learns:
            encoder.load_state(load_state(state_path(self._path, name), fitted.state))
        elif (found := hash_state(encoder.state())) != fitted.state:
            raise DataError(
                f"{self._path}: encoder {name!r} had weights of hash {fitted.state}, here are {found}; "
                "give it the weights that it had, or prepare the set again"
            )
        return encoder

    def provenance(self) -> dict[str, Any]:
        """Source, encoders and their hashes (JSON)."""
        manifest = self.manifest("train")
        return {
            **manifest.provenance,
            "encoders": {name: str(e.component) for name, e in manifest.encoders.items()},
            "states": {name: e.state for name, e in manifest.encoders.items()},
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """sha256 over both manifests: it changes with any byte of the set."""
        text = "".join(self.manifest(split).to_json() for split in SPLITS)
        return hashlib.sha256(text.encode()).hexdigest()

    def contents(self) -> dict[str, str]:
        """{"train/x.npy": sha256} of what each field holds, sample by sample, whatever shards it lies in."""
        found: dict[str, str] = {}
        for split in SPLITS:
            index = self._shards[split].index
            columns = {"label": index.label_N} | {name: field.crc_N for name, field in index.fields.items()}
            found |= {
                f"{split}/{name}": hashlib.sha256(column.tobytes()).hexdigest()
                for name, column in columns.items()
            }
        return found

    def reference_hash(self, split: Split) -> str:
        """sha256 that stands for the stored samples of a split alone, whatever features lie beside."""
        places = self._shards[split].index.fields.get(member_of(SAMPLE))
        return hashlib.sha256(b"" if places is None else places.crc_N.tobytes()).hexdigest()

    def _check_splits(self) -> None:
        train, test = (self.manifest(split) for split in SPLITS)
        for key in ("latent", "tokenizer", "encoders", "features", "class_names", "picture_shape"):
            if getattr(train, key) != getattr(test, key):
                raise DataError(
                    f"{self._path}: {key} of train is {getattr(train, key)}, of test {getattr(test, key)}"
                )
        for split in SPLITS:
            if self.manifest(split).split != split:
                raise DataError(f"{self._path / split / MANIFEST}: split: {self.manifest(split).split!r}")
