"""What the names in a tree of pictures say: which split, which class.

`train/CLASS/…/NAME` and `test/CLASS/…/NAME`, or `CLASS/…/NAME`, or plain `NAME` without classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from genmem.contracts import Split

_SPLITS: dict[str, Split] = {"train": "train", "test": "test", "val": "test", "validation": "test"}


@attrs.frozen
class Item:
    """One picture."""

    name: str
    """In its tree."""

    split: Split | None
    """None where the tree does not say."""

    label: str | None
    """Its class; None where it stands in no folder."""


def read_layout(names: Iterable[str], path: Path) -> list[Item]:
    """Every picture, ordered by name.

    A single folder around everything (as archives have) is looked through.

    Raises:
        ValueError: Some pictures stand in folders of classes and some do not, or there is a `test`
            without a `train`, or two folders that both mean `test`.
    """
    parts = {name: tuple(name.split("/")) for name in sorted(names)}
    around = _count_around(list(parts.values()))
    tops = {part[around] for part in parts.values() if len(part) > around + 1}
    split = bool(tops) and tops <= set(_SPLITS) and "train" in tops
    if split and len({_SPLITS[top] for top in tops}) < len(tops):
        raise ValueError(f"{path}: the folders {sorted(tops)} both hold a test split; leave one")
    items = []
    for name, part in parts.items():
        inner = part[around + split :]
        if split and len(part) == around + 1:
            raise ValueError(f"{path}: {name} stands outside train/ and test/")
        items.append(
            Item(name, _SPLITS[part[around]] if split else None, inner[0] if len(inner) > 1 else None)
        )
    _check_labels(items, path)
    return items


def _count_around(parts: list[tuple[str, ...]]) -> int:
    """1 where one folder stands around folders of all the pictures."""
    tops = {part[0] for part in parts}
    deep = all(len(part) > 2 for part in parts)
    return 1 if parts and deep and len(tops) == 1 else 0


def _check_labels(items: list[Item], path: Path) -> None:
    loose = [item.name for item in items if item.label is None]
    if loose and len(loose) < len(items):
        raise ValueError(
            f"{path}: {loose[0]} stands in no class folder, though other pictures do; "
            "put it into one, or all pictures into none"
        )
