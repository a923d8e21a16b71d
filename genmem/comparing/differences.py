"""In what recipes differ: one line for each key, one column for each configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from genmem.comparing.groups import SEED, Group, own_keys

ABSENT = "–"


@attrs.frozen
class Difference:
    """A key that not all recipes give one value."""

    key: str
    values: tuple[str, ...]
    """As text, one for each configuration."""

    changed: tuple[bool, ...]
    """Whether it is another one than the baseline's."""


def differences(groups: Sequence[Group]) -> list[Difference]:
    """Keys in the order of the recipes; the first configuration is the baseline."""
    tables = [_configuration(group) for group in groups]
    found = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = tuple(text_of(table[key]) if key in table else ABSENT for table in tables)
        if len(set(values)) > 1:
            found.append(Difference(key, values, tuple(value != values[0] for value in values)))
    return found


def resolved(group: Group, baseline: Group) -> list[tuple[str, str, bool]]:
    """(key, value, whether the baseline has another) of a whole recipe, what it lacks included."""
    here, there = group.first.recipe, baseline.first.recipe
    marked = _configuration(group).keys() | _configuration(baseline).keys()
    lines = [
        (
            key,
            text_of(here[key]) if key in here else ABSENT,
            key in marked and here.get(key) != there.get(key),
        )
        for key in dict.fromkeys((*here, *there))
        if key in here or key in marked
    ]
    seeds = ", ".join(str(run.seed) for run in group.runs)
    return [(key, seeds if key == SEED else value, other) for key, value, other in lines]


def text_of(value: Any) -> str:
    """A value as a recipe would say it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _configuration(group: Group) -> Mapping[str, Any]:
    return own_keys(group.first)
