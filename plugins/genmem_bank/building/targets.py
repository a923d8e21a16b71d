"""What `genmem bank build` is given: a recipe, the folder of a set, or the shards of one split.

Its features lie in the shards, or an encoder makes them from its pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genmem.contracts import DatasetFolder, Split
from genmem.data.dataset import Dataset, is_prepared, open_dataset
from genmem.data.preparation import prepare
from genmem.data.streaming.shards import ShardSet
from genmem.recipe import load, load_data
from genmem.recipe.data_table import DataTable
from genmem_bank.building.encoding import EncodedPictures


@attrs.frozen
class ShardFolder:
    """The shards of one split, taken for a training split; a `DatasetFolder`."""

    shards: ShardSet

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.shards.folder

    @property
    def views(self) -> int:
        """1, or 2 where mirrored twins are stored."""
        return self.shards.views

    @property
    def feature_widths(self) -> dict[str, int]:
        """Width of every per-sample feature."""
        return {name: feature.shape[-1] for name, feature in self.shards.manifest.features.items()}

    def count(self, split: Split) -> int:
        """Samples."""
        return len(self.shards)

    def labels(self, split: Split) -> np.ndarray:
        """(N,) int64; -1 where there is none."""
        return self.shards.index.label_N

    def feature(self, split: Split, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """(stop - start, …) float32."""
        number_B = np.arange(start, stop)
        values = self.shards.read(name, number_B, np.full_like(number_B, view))
        return values.astype(np.float32, copy=False)

    def provenance(self) -> dict[str, Any]:
        """Source, encoders and their hashes (JSON)."""
        manifest = self.shards.manifest
        return {
            **manifest.provenance,
            "encoders": {name: str(e.component) for name, e in manifest.encoders.items()},
            "states": {name: e.state for name, e in manifest.encoders.items()},
            "index": manifest.index,
        }


@attrs.frozen(kw_only=True)
class Target:
    """A set, and what is known of it."""

    dataset: Dataset | ShardFolder
    data: DataTable | None
    """The recipe's table, or one made from the set; absent for bare shards."""

    def name_feature(self, encoder: str | None) -> str:
        """The feature to take: the one asked for, or the only one there is.

        Raises:
            ValueError: There is none, or more than one; or nothing has this name.
        """
        stored, made = sorted(self.dataset.feature_widths), sorted(self.data.encoder if self.data else ())
        if encoder is None and len(stored) == 1:
            return stored[0]
        if encoder is None or encoder not in {*stored, *made}:
            asked = "say --encoder" if encoder is None else f"--encoder {encoder}: no such feature or encoder"
            raise ValueError(f"{self.dataset.path}: {asked}; the shards have {', '.join(stored) or 'none'}")
        return encoder

    def features(
        self, name: str, device: torch.device, kept: Path, numbers: np.ndarray | None
    ) -> DatasetFolder:
        """The set with this feature: as it is stored, or as an encoder makes it."""
        if name in self.dataset.feature_widths:
            return self.dataset
        assert self.data is not None and isinstance(self.dataset, Dataset)
        return EncodedPictures(
            self.dataset,
            self.data.tokenizer.config.build(),
            name,
            self.data.encoder[name],
            device,
            kept=kept,
            numbers=numbers,
            batch=self.data.encode_batch,
        )


def open_target(
    word: str, overrides: Sequence[str], plugins: Sequence[Path], encoder: str | None, **preparing: Any
) -> Target:
    """The set that a command names.

    Args:
        word: A recipe, the folder of a prepared set, or of the shards of one split.
        overrides: Of the recipe; of a set's folder those of the `data` table.
        plugins: Un-packaged plugin files.
        encoder: The feature that is wanted. One that is not stored is left out of what the recipe is
            compared in.
        preparing: For `prepare`, where a recipe's set is missing.

    Raises:
        DataError: What is missing, damaged, or another set than the recipe's.
        RecipeError: The recipe is wrong, or no such encoder is installed.
    """
    folder = Path(word)
    if folder.is_dir() and not is_prepared(folder):
        return Target(dataset=ShardFolder(ShardSet.open(folder)), data=None)
    if folder.is_dir():
        dataset = Dataset(folder)
        return Target(dataset=dataset, data=_table_of(dataset, encoder, overrides, plugins))
    data = load(word, overrides, plugins).data
    compared = data
    if is_prepared(data.path) and encoder not in open_dataset(data).feature_widths:
        compared = attrs.evolve(data, encoder={k: v for k, v in data.encoder.items() if k != encoder})
    return Target(dataset=prepare(compared, **preparing), data=data)


def _table_of(
    dataset: Dataset, encoder: str | None, overrides: Sequence[str], plugins: Sequence[Path]
) -> DataTable:
    """The table that a set's manifest means, with the encoder that is not in it."""
    made_by = dataset.manifest("train").tokenizer
    settings = {key: value for key, value in made_by.settings.items() if value is not None}
    raw: dict[str, Any] = {"path": str(dataset.path), "tokenizer": {"use": made_by.use, **settings}}
    if encoder is not None and encoder not in dataset.feature_widths:
        raw["encoder"] = {encoder: {"use": encoder}}
    return load_data(raw, overrides, plugins)
