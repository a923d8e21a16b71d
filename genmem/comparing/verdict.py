"""The verdict in plain words: which run is best, how sure that is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from genmem.comparing.caveats import caveats_of
from genmem.comparing.comparison import Comparison
from genmem.comparing.costs import Costs
from genmem.comparing.protocols import name_memory
from genmem.comparing.standing import Entry, Task
from genmem.comparing.words import (
    bytes_text,
    count_text,
    images_text,
    protocol_text,
    rate_text,
    score_text,
    training_text,
)
from genmem.scoring.table import Column


@attrs.frozen
class Statement:
    """One thing that is said."""

    about: str
    text: str


@attrs.frozen(kw_only=True)
class Verdict:
    """What is said of one task."""

    told: str
    """What the networks are told."""

    best: str
    """The configuration; empty where there is nothing to rank."""

    group: str
    """Its name without where its rows came from."""

    score: str
    """Its headline score, with title and spread."""

    statements: tuple[Statement, ...]
    caveats: tuple[str, ...]
    digest: str
    protocol: str


def verdicts(comparison: Comparison) -> list[Verdict]:
    """One for each task, those without a memory first."""
    return [_verdict(comparison, task) for task in comparison.standing.tasks]


def _verdict(comparison: Comparison, task: Task) -> Verdict:
    best, column = task.best, comparison.standing.headline
    protocol = best.group.protocol
    said = [*_ranking(comparison, task), *_cost(comparison, task)]
    return Verdict(
        told=task.told,
        best=best.name if len(task.entries) > 1 else "",
        group=best.group.name,
        score=f"{column.title} {score_text(best.figures[column.key], column)}",
        statements=tuple(said),
        caveats=tuple(caveats_of(comparison, task)),
        digest=protocol.digest,
        protocol=protocol_text(protocol),
    )


def _ranking(comparison: Comparison, task: Task) -> Iterator[Statement]:
    best, column = task.best, comparison.standing.headline
    score = score_text(best.figures[column.key], column)
    if len(task.entries) == 1:
        rows = name_memory(best.group.memory) if best.group.memory else ""
        name = f"{best.name} ({rows})" if rows else best.name
        text = f"{name} is the only one of its kind, with {column.title} {score}: nothing to rank."
        yield Statement("Score", f"{text}{_floor(best, column)}")
        return
    second = task.entries[1]
    yield Statement(
        "Score",
        f"{best.name} has the best {column.title} of {len(task.entries)}, {score} ({column.better} is "
        f"better). Next is {second.name} with {score_text(second.figures[column.key], column)}."
        f"{_floor(best, column)}",
    )
    yield Statement("How sure", _certainty(task, column.key))
    others = _agreement(comparison, task)
    if others:
        yield Statement("Other scores", others)


def _floor(best: Entry, column: Column) -> str:
    floor = best.floor.get(column.key)
    return "" if floor is None else f" Real pictures score {column.text(floor)}."


def _certainty(task: Task, key: str) -> str:
    tied = [one.name for one in task.tied(key)]
    over = {one.figures[key].over for one in task.entries}
    if "nothing" in over:
        return (
            "One training seed and one set of noise have no spread: whether another seed would give the "
            "same order is not known."
        )
    if "sets of noise" in over:
        return (
            "The spread is over sets of noise, not over trainings: whether another training seed would "
            "give the same order is not known."
        )
    seeds = " and ".join(sorted({str(len(one.group.runs)) for one in task.entries}))
    if tied:
        return f"With {seeds} training seeds the spread does not tell it from {', '.join(tied)}."
    return f"Ahead of every other by more than twice the standard error, with {seeds} training seeds."


def _agreement(comparison: Comparison, task: Task) -> str:
    """Whether other scores have another winner."""
    standing = comparison.standing
    others: dict[str, list[str]] = {}
    for column in standing.columns:
        winner = standing.winner(task, column)
        if column.key != standing.headline.key and winner is not None:
            others.setdefault(winner.name, []).append(column.title)
    told = "; ".join(f"{name} by {', '.join(titles)}" for name, titles in others.items())
    return f"Best by the other scores: {told}." if told else ""


def _cost(comparison: Comparison, task: Task) -> Iterator[Statement]:
    best = task.best
    costs = comparison.costs[best.group.name]
    if costs.parameters is None:
        yield Statement("A sample", "What it costs is not known here.")
    else:
        yield Statement("A sample", _sampling(costs))
    rate = f" at {rate_text(best.group.rate)} images/s" if best.group.rate else ""
    total = "" if costs.training_flops is None else f", {training_text(costs, best.group)} in all"
    yield Statement("Training", f"{images_text(best.group.images)} images seen{rate}{total}.")
    beside = _beside(comparison, best, costs)
    if beside:
        yield Statement(f"Beside {comparison.standing.baseline.name}", beside)


def _sampling(costs: Costs) -> str:
    return (
        f"{count_text(costs.sample_flops, 'FLOPs')} in {costs.evaluations or 'unknown many'} network "
        f"evaluations, with {count_text(costs.parameters)} parameters and {bytes_text(costs.bytes)}."
    )


def _beside(comparison: Comparison, best: Entry, costs: Costs) -> str:
    """The same in multiples of the baseline's."""
    baseline = comparison.standing.baseline
    if baseline is best.group:
        return ""
    theirs = comparison.costs[baseline.name]
    told = []
    if costs.sample_flops is not None and theirs.sample_flops:
        told.append(f"{_times(costs.sample_flops / theirs.sample_flops)} FLOPs a sample")
    if costs.training_flops is not None and theirs.training_flops:
        told.append(f"{_times(costs.training_flops / theirs.training_flops)} FLOPs a training image")
    if best.group.images != baseline.images:
        told.append(f"{_times(best.group.images / baseline.images)} images seen")
    reached = comparison.reached(best.group)
    if reached is not None and reached.spread is not None:
        fewer = baseline.images / reached.spread.mean
        images = images_text(reached.spread.mean)
        if fewer > 1:
            told.append(f"its last score came after {images} images, {fewer:.1f} times fewer than it saw")
    return f"{'; '.join(told)}." if told else ""


def _times(ratio: float) -> str:
    return "as many" if abs(ratio - 1) < 5e-4 else f"{ratio:.2f} times the"
