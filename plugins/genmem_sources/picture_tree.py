"""Pictures of a folder or an archive of class folders, as a source.

Shapes: N pictures of the tree, H W C picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genmem.contracts import Split
from genmem_sources.configs import TreeConfig
from genmem_sources.files import Files, open_files
from genmem_sources.holding_out import count_held, hold_out
from genmem_sources.layout import Item, read_layout
from genmem_sources.pictures import SUFFIXES, decode_picture, is_picture


@attrs.frozen
class _Picture:
    files: Files
    name: str
    label: int


class PictureTree:
    """The pictures below `path`, split as its folders, `test` or `held_out` say."""

    def __init__(self, config: TreeConfig) -> None:
        """List them; none is read.

        Raises:
            ValueError, FileNotFoundError: No pictures, or a tree that cannot be understood.
        """
        self._config = config
        trees = [_open_tree(Path(config.path))]
        if config.test:
            trees.append(_open_tree(Path(config.test)))
        splits = [_split_of(items, config, first=i == 0) for i, (_, items) in enumerate(trees)]
        names = sorted({item.label for _, items in trees for item in items if item.label is not None})
        self.class_names = tuple(names)
        number = {name: i for i, name in enumerate(names)}
        self._splits: dict[Split, list[_Picture]] = {"train": [], "test": []}
        for (files, items), chosen in zip(trees, splits, strict=True):
            for item, split in zip(items, chosen, strict=True):
                label = -1 if item.label is None else number[item.label]
                self._splits[split].append(_Picture(files, item.name, label))
        self._trees = trees
        self._check_labels()

    @property
    def provenance(self) -> dict[str, Any]:
        """Hashes and counts of the trees, the licence that was given, and how they were split."""
        config = self._config
        return {
            "trees": [
                {"name": files.path.name, "sha256": files.fingerprint()}
                | {"pictures": len(items), "other_files": len(files.sizes) - len(items)}
                for files, items in self._trees
            ],
            "licence": config.licence or "not stated",
            "crop": f"ADM centre crop to {config.resolution}" if config.resolution else "none",
        }

    def count(self, split: Split) -> int:
        """Pictures in this split."""
        return len(self._splits[split])

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, C) and label."""
        found, config = self._splits[split][number], self._config
        data = found.files.read(found.name)
        where = f"{found.files.path}: {found.name}"
        return decode_picture(
            data, where, channels=config.channels, resolution=config.resolution
        ), found.label

    def _check_labels(self) -> None:
        """Labelled and unlabelled trees do not go together."""
        labelled = {picture.label >= 0 for pictures in self._splits.values() for picture in pictures}
        if len(labelled) > 1:
            raise ValueError(
                f"{self._config.path} and {self._config.test}: one has class folders, the other none"
            )


def _open_tree(path: Path) -> tuple[Files, list[Item]]:
    files = open_files(path)
    items = read_layout(filter(is_picture, files.sizes), path)
    if not items:
        raise ValueError(f"{path}: holds no pictures ({', '.join(SUFFIXES)})")
    return files, items


def _split_of(items: list[Item], config: TreeConfig, *, first: bool) -> list[Split]:
    """The split of every picture of a tree."""
    if not first:
        return ["test"] * len(items)
    said = {item.split for item in items} - {None}
    if "test" in said and (config.test or config.held_out):
        key = "test" if config.test else "held_out"
        raise ValueError(f"{config.path}: has a test folder of its own; leave {key} out")
    if "test" in said:
        return [item.split or "train" for item in items]
    classes = {name: i for i, name in enumerate(sorted({item.label or "" for item in items}))}
    label_N = np.array([classes[item.label or ""] for item in items])
    held_N = hold_out([item.name for item in items], label_N, count_held(config.held_out, len(items)))
    return ["test" if held else "train" for held in held_N.tolist()]
