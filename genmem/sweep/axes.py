"""Axes of a grid, from the words of a command line and from `[sweep.axes]`. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from genmem.recipe.overrides import parse_value

SCORING = ("sampler", "guidance", "evaluate")
"""Tables that change scores and no weights."""

WHEN = "evaluate.every"
"""The one key there that says when to score in training, not how."""


@attrs.frozen
class Axis:
    """One key and the values it takes in turn."""

    key: str
    values: tuple[str, ...]
    """As they stand in an override, after the `=`."""

    @property
    def trains(self) -> bool:
        """Whether another value needs another training run."""
        return self.key.partition(".")[0] not in SCORING or self.key == WHEN

    def words(self) -> list[str]:
        """One override for each value."""
        return [f"--{self.key}={value}" for value in self.values]


@attrs.frozen
class Line:
    """The overrides of a command line, sorted."""

    table: tuple[str, ...]
    """Those of the `[sweep]` table itself."""

    plain: Mapping[str, str]
    """{key: override} of those with one value; they hold for every run."""

    axes: Mapping[str, Axis]


def sort_overrides(words: Sequence[str]) -> Line:
    """Tell axes (a comma outside brackets and quotes) from plain overrides; later ones win."""
    table: list[str] = []
    plain: dict[str, str] = {}
    axes: dict[str, Axis] = {}
    for word in words:
        key, _, text = word.removeprefix("--").partition("=")
        values = split_values(text)
        plain.pop(key, None)
        axes.pop(key, None)
        if key.startswith("sweep."):
            table.append(word)
        elif len(values) > 1:
            axes[key] = Axis(key, tuple(values))
        else:
            plain[key] = word
    return Line(tuple(table), plain, axes)


def split_values(text: str) -> list[str]:
    """The text cut at each comma that stands in no brackets and no quotes."""
    pieces, depth, quote, escaped = [""], 0, "", False
    for sign in text:
        if sign == "," and not depth and not quote:
            pieces.append("")
            continue
        pieces[-1] += sign
        if quote:
            quote = "" if sign == quote and not escaped else quote
            escaped = sign == "\\" and quote == '"' and not escaped
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "[{") - (sign in "]}")
    return pieces


def text_of(value: Any) -> str:
    """A value as an override says it: `parse_value` reads it back. Text without quotes, where it can."""
    if isinstance(value, str) and parse_value(value) == value and split_values(value) == [value]:
        return value
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool | str):  # JSON's true and false, and but for one sign its text, are TOML's
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(part)}' for key, part in value.items())}}}"
    return str(value)
