"""The `[sweep]` table of a recipe: which runs `genmem sweep` makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from genmem.recipe.limits import positive


def _not_empty(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    for key, values in value.items():
        if not values:
            raise ValueError(f"{key!r} has no values")


@attrs.frozen(kw_only=True)
class SweepTable:
    """The grid `genmem sweep` runs, and what it is compared with; other commands look past it."""

    seeds: int = attrs.field(default=1, validator=positive)
    """Runs of each configuration: `train.seed`, `train.seed` + 1, …"""

    axes: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict, validator=_not_empty)
    """Values to try of a key: "memory.negatives.rows" = [4096, 16384], the key in quotes."""

    beside: Mapping[str, str] = attrs.field(factory=dict)
    """Configurations outside the grid, by name: a recipe file, relative to this one, or a shipped one."""

    baseline: str | None = None
    """The configuration the others are compared with, by its name; the first if absent."""

    score: str | None = None
    """Score of the curves, as in metrics.jsonl ("fd/pixels"); the first feature space's if absent."""
