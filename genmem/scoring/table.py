"""The table of scores: data first, text for people second.

A row carries the digest of the protocol it was scored under, and its own floor, where they are
not the table's: held-out rows are scored against another half of the held-out pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, get_args

import attrs

from genmem.host import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Better = Literal["lower", "higher", "neither"]
Unit = Literal["number", "share"]
ABSENT = "–"
SAMPLES = "samples"
HELD_OUT = "samples, held-out rows"
DECODE = "linear decode of the rows"
"""Names of rows that other code looks up."""

NOT_APPLICABLE = "does not apply"
"""The reason that needs no line below the table."""
_ARROWS: Mapping[str, str] = {"lower": "↓", "higher": "↑", "neither": ""}


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@attrs.frozen
class Cell:
    """One score, or the reason why there is none."""

    value: float | None
    """Of several repetitions the mean."""

    reason: str = ""
    values: tuple[float, ...] = attrs.field(default=(), converter=_floats)
    """One for each repetition, where there are several and they differ."""

    def __attrs_post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError("a cell without a value needs a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a cell holds a number or a reason, got {self.value}: use Cell.of")

    @classmethod
    def of(cls, value: float) -> Cell:
        """A score; one that is not finite is absent, and says so."""
        return cls(float(value)) if math.isfinite(value) else cls(None, f"the score is {value}")

    @classmethod
    def of_several(cls, values: Sequence[float]) -> Cell:
        """The mean over repetitions, whose values are kept where they differ."""
        bad = next((value for value in values if not math.isfinite(value)), None)
        if bad is not None or len(set(values)) == 1:
            return cls.of(values[0] if bad is None else bad)
        return cls(fmean(values), values=tuple(values))

    @property
    def sd(self) -> float | None:
        """Standard deviation over repetitions, n - 1 in the denominator; None for a single one."""
        return stdev(self.values) if self.values else None


@attrs.frozen(kw_only=True)
class Column:
    """One score and how it reads."""

    key: str
    title: str
    better: Better = attrs.field(default="lower", validator=attrs.validators.in_(get_args(Better)))
    unit: Unit = attrs.field(default="number", validator=attrs.validators.in_(get_args(Unit)))
    digits: int = 3
    """Digits after the point; of the percentage for a share."""

    multiples: bool = True
    """Also shown as a multiple of the floor; meaningless for a score whose floor is near 0."""

    def text(self, value: float) -> str:
        """The value as people read it."""
        return f"{100 * value:.{self.digits}f} %" if self.unit == "share" else f"{value:.{self.digits}f}"


@attrs.frozen(kw_only=True)
class Row:
    """One kind of pictures and its scores."""

    name: str
    cells: Mapping[str, Cell]
    """{column key: cell}; every column of the table."""

    protocol: str = ""
    """Digest of its protocol, where it is not the table's."""

    floor: Mapping[str, float] = attrs.field(factory=dict)
    """{column key: the score of real pictures}, where it is not the table's."""


@attrs.frozen(kw_only=True)
class ScoreTable:
    """Rows of scores under one protocol, but for rows that name another."""

    title: str
    protocol: str
    """Digest of the protocol."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    floor: Mapping[str, float] = attrs.field(factory=dict)
    """{column key: the score of real pictures}; scores are also shown as multiples of it."""

    def __attrs_post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows of one name: {names}")
        keys = {column.key for column in self.columns}
        for row in self.rows:
            if set(row.cells) != keys:
                unknown, missing = sorted(set(row.cells) - keys), sorted(keys - set(row.cells))
                raise ValueError(f"row {row.name!r}: unknown columns {unknown}, missing columns {missing}")
        for floor in (self.floor, *(row.floor for row in self.rows)):
            if not set(floor) <= keys:
                raise ValueError(f"floor of unknown columns {sorted(set(floor) - keys)}")

    def __getitem__(self, name: str) -> Row:
        """The row of this name.

        Raises:
            KeyError: No such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {[row.name for row in self.rows]}")

    def times_floor(self, row: Row, key: str) -> float | None:
        """The score as a multiple of the row's floor, or the table's; None where there is no floor."""
        floor = row.floor.get(key, self.floor.get(key))
        value = row.cells[key].value
        return value / floor if value is not None and floor is not None and floor > 0 else None

    def reasons(self) -> list[str]:
        """A line for each absent score."""
        return [
            f"{row.name}, {column.title}: {row.cells[column.key].reason}"
            for row in self.rows
            for column in self.columns
            if row.cells[column.key].value is None
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives the same table back."""
        return {
            "title": self.title,
            "protocol": self.protocol,
            "floor": dict(self.floor),
            "columns": [attrs.asdict(column) for column in self.columns],
            "rows": [attrs.asdict(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScoreTable:
        """A table from `to_json`.

        Raises:
            TypeError, ValueError: Unknown or missing keys.
        """
        columns = tuple(Column(**column) for column in data["columns"])
        rows = tuple(
            Row(**{**row, "cells": {key: Cell(**cell) for key, cell in row["cells"].items()}})
            for row in data["rows"]
        )
        return cls(**{**data, "columns": columns, "rows": rows})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, then a line for each thing the numbers alone do not say."""
        from rich.text import Text

        from genmem import terminal

        marks = self._marks()
        names = [f"{row.name} {marks.get(row.name, '')}".rstrip() for row in self.rows]
        columns = [
            terminal.Column(
                f"{column.title} {_ARROWS[column.better]}".rstrip(),
                [terminal.Cell(tuple(self._parts(row, column))) for row in self.rows],
            )
            for column in self.columns
        ]
        yield from terminal.fit(self.title, "pictures", names, columns, options.max_width)
        yield from (Text(note) for note in self._notes(marks))

    def _parts(self, row: Row, column: Column) -> Iterator[str]:
        cell = row.cells[column.key]
        yield ABSENT if cell.value is None else column.text(cell.value)
        if cell.sd is not None:
            yield f"± {column.text(cell.sd)}"
            yield f"min {column.text(min(cell.values))}"
        times = self.times_floor(row, column.key) if column.multiples else None
        if times is not None:
            yield f"({times:.1f}×)"

    def _marks(self) -> dict[str, str]:
        """{row name: mark} of rows with a protocol or a floor of their own."""
        own = [row.name for row in self.rows if row.protocol or row.floor]
        return {name: f"[{number}]" for number, name in enumerate(own, 1)}

    def _notes(self, marks: Mapping[str, str]) -> Iterator[str]:
        yield f"protocol {self.protocol}"
        if self.floor or any(row.floor for row in self.rows):
            yield "(n×): multiple of the floor, the score of real pictures"
        for name, mark in marks.items():
            row = self[name]
            floors = [f"{c.title} {c.text(row.floor[c.key])}" for c in self.columns if c.key in row.floor]
            yield ", floor ".join([f"{mark} protocol {row.protocol or self.protocol}", *floors])
        yield from (f"{ABSENT} {line}" for line in self.reasons() if not line.endswith(NOT_APPLICABLE))


def column_to_rank_by(ranked: Mapping[str, Column], by: str | None, unknown: str) -> Column:
    """The column of this key among those that rank; the first if none is given.

    Raises:
        ValueError: No such column; `unknown` says what a column here has to be.
    """
    if by is None:
        return next(iter(ranked.values()))
    if by not in ranked:
        raise ValueError(f"--by {by}: {unknown}{did_you_mean(by, ranked)}; there are {', '.join(ranked)}")
    return ranked[by]
