"""Who stands where: rows of scores, ranked within each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from genmem.comparing.groups import Estimate, Group
from genmem.comparing.protocols import name_memory, task_of, tell_task
from genmem.comparing.statistics import differs
from genmem.scoring.table import DECODE, HELD_OUT, SAMPLES, Column, Row, column_to_rank_by

GAUSSIAN = "Gaussian"
REAL = "held-out pictures"


@attrs.frozen(kw_only=True, eq=False)
class Entry:
    """One row of the table: a configuration, and for one with a memory, where the rows came from."""

    group: Group
    row: str
    name: str
    ranked: bool
    figures: Mapping[str, Estimate]
    """{column key: score}."""

    floor: Mapping[str, float]
    """{column key: the score of real pictures}."""


@attrs.frozen(kw_only=True, eq=False)
class Task:
    """Configurations that are told the same, best first."""

    told: str
    memory: bool
    entries: tuple[Entry, ...]
    """Those that are ranked, best first."""

    asides: tuple[Entry, ...]
    """Further rows of the same configurations, not ranked."""

    @property
    def best(self) -> Entry:
        """The first."""
        return self.entries[0]

    def tied(self, key: str) -> list[Entry]:
        """Those that twice the standard error does not tell from the best, and those whose spread
        nobody knows."""
        best = self.best.figures[key]
        return [one for one in self.entries[1:] if key in one.figures and not _apart(best, one.figures[key])]


@attrs.frozen(kw_only=True, eq=False)
class Standing:
    """Everything the scores say."""

    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    headline: Column
    """What the ranking goes by."""

    tasks: tuple[Task, ...]
    forced: bool
    """Whether scores of different protocols stand side by side."""

    @property
    def baseline(self) -> Group:
        """The configuration that was named first."""
        return self.groups[0]

    def winner(self, task: Task, column: Column) -> Entry | None:
        """The entry that is best by one column; None where there is a tie, or nothing to rank."""
        there = [one for one in task.entries if column.key in one.figures]
        there.sort(key=lambda one: _order(one, column))
        if column.better == "neither" or len(there) < 2:
            return None
        return there[0] if _order(there[0], column) < _order(there[1], column) else None


def stand(groups: Sequence[Group], by: str | None, *, forced: bool) -> Standing:
    """Rank configurations.

    Args:
        groups: The baseline first.
        by: Key of the score to rank by; the first that all of them have if absent.
        forced: Whether their protocols may differ.

    Raises:
        ValueError: A score that not all of them have, or none that they share.
    """
    columns = _columns(groups)
    entries = [entry for group in groups for entry in _entries(group)]
    headline = _headline(columns, [one for one in entries if one.ranked], by)
    names = dict.fromkeys(task_of(group.protocol) for group in groups)
    tasks = [_task(name, entries, headline) for name in names]
    tasks.sort(key=lambda task: task.memory)
    return Standing(
        groups=tuple(groups), columns=columns, headline=headline, tasks=tuple(tasks), forced=forced
    )


def _task(name: str, entries: Sequence[Entry], headline: Column) -> Task:
    mine = [one for one in entries if task_of(one.group.protocol) == name]
    ranked = sorted((one for one in mine if one.ranked), key=lambda one: _order(one, headline))
    first = mine[0].group
    return Task(
        told=f"{tell_task(first.protocol)} ({name_memory(first.memory)})"
        if first.memory
        else tell_task(first.protocol),
        memory=first.protocol.memory is not None,
        entries=tuple(ranked),
        asides=tuple(one for one in mine if not one.ranked),
    )


def _entries(group: Group) -> list[Entry]:
    """Held-out rows first; without a memory there is one row."""
    there = list(group.rows())
    if group.protocol.memory is None:
        return [_entry(group, SAMPLES, group.name, ranked=True)]
    names = {
        HELD_OUT: "held-out rows",
        SAMPLES: "rows of the bank",
        DECODE: "linear decode of the rows",
    }
    kinds = [kind for kind in names if kind in there]
    return [_entry(group, kind, f"{group.name}, {names[kind]}", ranked=kind == kinds[0]) for kind in kinds]


def _entry(group: Group, kind: str, name: str, *, ranked: bool) -> Entry:
    table = group.scorings[0].table
    floor = {**table.floor, **table[kind].floor}
    return Entry(group=group, row=kind, name=name, ranked=ranked, figures=group.figures(kind), floor=floor)


def reference_row(group: Group, kind: str) -> Row | None:
    """A row that is no run's: the Gaussian, real pictures."""
    return next((row for row in group.scorings[0].table.rows if row.name == kind), None)


def _columns(groups: Sequence[Group]) -> tuple[Column, ...]:
    found: dict[str, Column] = {}
    for group in groups:
        found |= {column.key: column for column in group.scorings[0].table.columns if column.key not in found}
    return tuple(found.values())


def _headline(columns: Sequence[Column], entries: Sequence[Entry], by: str | None) -> Column:
    shared = {
        column.key: column
        for column in columns
        if column.better != "neither" and all(column.key in one.figures for one in entries)
    }
    if not shared:
        raise ValueError("these runs have no score in common that ranks; score them in one feature space")
    return column_to_rank_by(shared, by, "not a score that ranks and that all runs have")


def _order(entry: Entry, column: Column) -> float:
    mean = entry.figures[column.key].spread.mean
    return -mean if column.better == "higher" else mean


def _apart(a: Estimate, b: Estimate) -> bool:
    return a.over == b.over and bool(differs(a.spread, b.spread))
