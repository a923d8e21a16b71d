"""Tables for a terminal of any width: columns that do not fit go into a further table; no number is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

_FRAME = 3
"""Of each column: a space on both sides and a line."""

_NAME = 16
"""Letters that names have room for in any case."""


class Cell(NamedTuple):
    """What stands in one place."""

    parts: tuple[str, ...]
    """Side by side where there is room, else one below the other."""

    style: str = ""


class Column(NamedTuple):
    """A title and a cell for each row."""

    title: str
    cells: Sequence[Cell]


def fit(
    title: str,
    first: str,
    names: Sequence[str],
    columns: Sequence[Column],
    width: int,
    justify: JustifyMethod = "right",
) -> Iterator[Table]:
    """Tables of the same rows that are at most `width` wide, with as many columns each as fit.

    Args:
        title: Of the table.
        first: Title of the column of names.
        names: Of the rows. Long ones are broken.
        columns: In order.
        width: Of the terminal.
        justify: "right" for numbers, "left" for words.
    """
    longest = max(cell_len(line) for name in (first, *names) for line in name.split("\n"))
    widest = min(longest, max(_NAME, width // 3))
    for joint, titles in ((" ", " "), (" ", "\n"), ("\n", " "), ("\n", "\n")):
        own, sizes, packs = _packed(columns, width, widest, joint, titles)
        if own + sum(sizes) + _FRAME * (len(sizes) + 1) < width:
            break
    else:
        # Names give way where that makes fewer tables.
        owns = range(widest, min(widest, _NAME) - 1, -1)
        all_ = (_packed(columns, width, own, joint, titles) for own in owns)
        own, sizes, packs = min(all_, key=lambda one: len(one[2]))
    most = width - own - 2 * _FRAME - 1
    for start, stop in packs:
        table = Table(title=Text(title if start == 0 else "continued"), title_justify="left")
        table.add_column(Text(first), width=own, overflow="fold")
        for column, size in zip(columns[start:stop], sizes[start:stop], strict=True):
            table.add_column(Text(column.title), justify=justify, width=min(size, most), overflow="fold")
        for number, name in enumerate(names):
            cells = [column.cells[number] for column in columns[start:stop]]
            table.add_row(Text(name), *(Text(joint.join(cell.parts), style=cell.style) for cell in cells))
        yield table


def _packed(
    columns: Sequence[Column], width: int, own: int, joint: str, titles: str
) -> tuple[int, list[int], list[tuple[int, int]]]:
    """With names `own` wide: that, the width of each column, and which stand together."""
    sizes = [_size(column, joint, titles) for column in columns]
    return own, sizes, list(_packs(sizes, width - own - _FRAME - 1))


def _size(column: Column, joint: str, titles: str) -> int:
    """Its widest line."""
    words = column.title.replace(" ", titles).split("\n")
    lines = [line for cell in column.cells for line in joint.join(cell.parts).split("\n")]
    return max(map(cell_len, (*words, *lines)), default=1)


def _packs(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """(first, first beyond) of as many as fit, and of one at least."""
    start, used = 0, 0
    for number, size in enumerate(sizes):
        if number > start and used + size + _FRAME > room:
            yield start, number
            start, used = number, 0
        used += size + _FRAME
    yield start, len(sizes)
