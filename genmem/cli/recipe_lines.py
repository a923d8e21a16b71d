"""The lines of `genmem recipe list`: a recipe is a line, for people and for grep."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genmem.recipe.overview import Entry

HEADER = ("recipe", "parameters", "GMACs", "published", "description")


def lines_of(entries: Mapping[str, Entry], width: int | None = None) -> Iterator[str]:
    """A header, then name, parameters in millions, GMACs, published score and description of each.

    Args:
        entries: By name.
        width: Of a terminal: a description that does not fit beside the rest stands below it.
    """
    rows = [HEADER, *(_row(name, entry) for name, entry in entries.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        name, parameters, macs, published = (
            f"{cell:{'<' if column in (0, 3) else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(row[:4], widths, strict=True))
        )
        sizes = f"{name}  {parameters}  {macs}  {published}"
        if width is None or len(sizes) + 2 + max(len(one[4]) for one in rows) <= width:
            yield f"{sizes}  {row[4]}".rstrip()
            continue
        yield sizes.rstrip()
        indent = " " * 4
        yield from textwrap.wrap(row[4], width, initial_indent=indent, subsequent_indent=indent)


def _row(name: str, entry: Entry) -> tuple[str, str, str, str, str]:
    count = entry.count
    sizes = (
        ("-", "-") if count is None else (f"{_figure(count.parameters / 1e6)} M", _figure(count.macs / 1e9))
    )
    return (name, *sizes, entry.score or "-", entry.description)


def _figure(value: float) -> str:
    """As many digits as tell networks of one size apart."""
    return f"{value:.2f}" if value >= 1 else f"{value:.4f}"
