"""The lines of `genmem recipe list`: a recipe is a line, for people and for grep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genmem.recipe.overview import Entry

HEADER = ("recipe", "parameters", "GMACs", "published", "description")


def lines_of(entries: Mapping[str, Entry]) -> Iterator[str]:
    """A header, then name, parameters in millions, GMACs, published score and description of each."""
    rows = [HEADER, *(_row(name, entry) for name, entry in entries.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        name, parameters, macs, published = (
            f"{cell:{'<' if column in (0, 3) else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(row[:4], widths, strict=True))
        )
        yield f"{name}  {parameters}  {macs}  {published}  {row[4]}".rstrip()


def _row(name: str, entry: Entry) -> tuple[str, str, str, str, str]:
    count = entry.count
    sizes = ("-", "-") if count is None else (f"{count.parameters / 1e6:.1f} M", f"{count.macs / 1e9:.2f}")
    return (name, *sizes, entry.score or "-", entry.description)
