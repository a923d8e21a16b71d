"""The tables of a comparison as cells: for the terminal, for the page, and as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from genmem.comparing.comparison import Comparison
from genmem.comparing.groups import Group
from genmem.comparing.protocols import name_memory
from genmem.comparing.standing import Entry, Task
from genmem.comparing.words import (
    ABSENT,
    ARROWS,
    bytes_text,
    count_text,
    images_text,
    rate_text,
    reach_text,
    repeated_text,
    score_text,
    training_text,
)
from genmem.scoring.table import Column


@attrs.frozen(kw_only=True)
class Line:
    """One row."""

    name: str
    note: str
    """What a row with a memory must be quoted with."""

    cells: tuple[str, ...]
    best: tuple[bool, ...]
    """Whether a cell is the best of its column and task."""

    rank: int | None
    """Within its task; None for a row that is not ranked."""

    index: int
    """Number of its configuration."""


@attrs.frozen(kw_only=True)
class Block:
    """The rows of one task."""

    told: str
    lines: tuple[Line, ...]


@attrs.frozen(kw_only=True)
class Sheet:
    """A table."""

    titles: tuple[str, ...]
    blocks: tuple[Block, ...]


def score_table(comparison: Comparison) -> Sheet:
    """Scores with their spread, a block for each task."""
    columns = comparison.standing.columns
    titles = [f"{column.title}{ARROWS[column.better]}" for column in columns]
    reach = f"images to {comparison.mark:.4g}" if comparison.mark is not None else "images to baseline"
    blocks = [_block(comparison, task, columns) for task in comparison.standing.tasks]
    return Sheet(titles=(*titles, reach, "repeated over", "protocol"), blocks=tuple(blocks))


def _block(comparison: Comparison, task: Task, columns: Sequence[Column]) -> Block:
    ranked = [_line(comparison, task, entry, rank, columns) for rank, entry in enumerate(task.entries, 1)]
    asides = [_line(comparison, task, entry, None, columns) for entry in task.asides]
    another = ": another task than the others" if task.memory else ""
    return Block(told=f"{task.told}{another}", lines=(*ranked, *asides))


def _line(
    comparison: Comparison, task: Task, entry: Entry, rank: int | None, columns: Sequence[Column]
) -> Line:
    group = entry.group
    cells = [score_text(entry.figures.get(column.key), column) for column in columns]
    several = len(task.entries) > 1
    best = [several and rank is not None and comparison.standing.winner(task, c) is entry for c in columns]
    own = [reach_text(comparison, group) if rank else "", repeated_text(group) if rank else ""]
    return Line(
        name=entry.name,
        note=name_memory(group.memory) if group.memory else "",
        cells=(*cells, *own, group.protocol.digest),
        best=(*best, False, False, False),
        rank=rank if several else None,
        index=comparison.groups.index(group),
    )


SAMPLING = ("parameters", "FLOPs a sample", "evaluations a sample", "memory to sample")
TRAINING = ("images/s", "images seen", "FLOPs an image", "FLOPs in all")


def sampling_table(comparison: Comparison) -> Sheet:
    """What a sample of each configuration costs whoever uses the trained network."""

    def cells(group: Group) -> tuple[str, ...]:
        costs = comparison.costs[group.name]
        return (
            count_text(costs.parameters),
            count_text(costs.sample_flops, "FLOPs"),
            str(costs.evaluations or ABSENT),
            bytes_text(costs.bytes),
        )

    return _cost_table(comparison, SAMPLING, cells)


def training_table(comparison: Comparison) -> Sheet:
    """What the training of each configuration took."""

    def cells(group: Group) -> tuple[str, ...]:
        costs = comparison.costs[group.name]
        return (
            rate_text(group.rate),
            images_text(group.images),
            count_text(costs.training_flops, "FLOPs"),
            training_text(costs, group),
        )

    return _cost_table(comparison, TRAINING, cells)


def _cost_table(
    comparison: Comparison, titles: tuple[str, ...], cells: Callable[[Group], tuple[str, ...]]
) -> Sheet:
    none = (False,) * len(titles)
    lines = [
        Line(name=group.name, note="", cells=cells(group), best=none, rank=None, index=number)
        for number, group in enumerate(comparison.groups)
    ]
    return Sheet(titles=titles, blocks=(Block(told="", lines=tuple(lines)),))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Every number of the comparison."""
    standing = comparison.standing
    return {
        "baseline": standing.baseline.name,
        "by": standing.headline.key,
        "forced": standing.forced,
        "mark": comparison.mark,
        "mark_of": comparison.mark_of,
        "tasks": [
            {
                "told": task.told,
                "ranked": [_entry_json(entry) for entry in task.entries],
                "others": [_entry_json(entry) for entry in task.asides],
            }
            for task in standing.tasks
        ],
        "configurations": [_group_json(comparison, number) for number in range(len(comparison.groups))],
        "protocols": {group.protocol.digest: group.protocol.to_json() for group in comparison.groups},
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    scores = {
        key: {
            "mean": one.spread.mean,
            "sd": one.spread.sd,
            "min": min(one.spread.values),
            "values": list(one.spread.values),
            "over": one.over,
        }
        for key, one in entry.figures.items()
    }
    return {"name": entry.name, "configuration": entry.group.name, "row": entry.row, "scores": scores}


def _group_json(comparison: Comparison, number: int) -> dict[str, Any]:
    group = comparison.groups[number]
    reached, rate = comparison.reached(group), group.rate
    return {
        "name": group.name,
        "runs": [str(run.path) for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "protocol": group.protocol.digest,
        "images": group.images,
        "images_to_mark": None if reached is None else list(reached.runs),
        "images_per_s": None if rate is None else list(rate.values),
        "costs": attrs.asdict(comparison.costs[group.name]),
    }
