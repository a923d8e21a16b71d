"""What must be said beside a verdict."""

from __future__ import annotations

from collections.abc import Iterator

from genmem.comparing.comparison import Comparison
from genmem.comparing.standing import GAUSSIAN, REAL, Task, reference_row
from genmem.comparing.words import images_text, score_text
from genmem.scoring.table import HELD_OUT

COPIES = "copies"

TWICE = 2.0


def caveats_of(comparison: Comparison, task: Task) -> Iterator[str]:
    """Of one task."""
    yield from _memory(task)
    yield from _gaussian(comparison, task)
    yield from _copies(task)
    lengths = {one.group.name: one.group.images for one in task.entries}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {images_text(images)}" for name, images in lengths.items())
        yield f"Not every run saw as many images: {told}."


def _memory(task: Task) -> Iterator[str]:
    if not task.memory:
        return
    yield "This is another task than being told a label or nothing: rows are features of real pictures."
    if all(one.row == HELD_OUT for one in task.entries):
        yield "It is ranked on rows of held-out pictures, which the bank never had."


def _gaussian(comparison: Comparison, task: Task) -> Iterator[str]:
    column, best = comparison.standing.headline, task.best
    row = reference_row(best.group, GAUSSIAN)
    cell = None if row is None else row.cells.get(column.key)
    if cell is None or cell.value is None or best.row == HELD_OUT:
        return
    mean = best.figures[column.key].spread.mean
    if (cell.value < mean) if column.better == "lower" else (cell.value > mean):
        yield (
            f"A Gaussian with the training pictures' mean and covariance, which shows nothing, has "
            f"{column.title} {column.text(cell.value)}: better than every run here. Look at the other "
            "scores and at the pictures."
        )


def _copies(task: Task) -> Iterator[str]:
    """Samples that lie nearer to training pictures than real pictures do."""
    for entry in task.entries:
        real = reference_row(entry.group, REAL)
        cell = None if real is None else real.cells.get(COPIES)
        mine = entry.figures.get(COPIES)
        if cell is None or cell.value is None or mine is None:
            continue
        if mine.spread.mean > TWICE * cell.value:
            column = next(c for c in entry.group.scorings[0].table.columns if c.key == COPIES)
            yield (
                f"Of the samples of {entry.name}, {score_text(mine, column)} are as near to a training "
                f"picture as a copy; of real held-out pictures it is {column.text(cell.value)}."
            )


def general_caveats(comparison: Comparison) -> Iterator[str]:
    """Of the whole comparison."""
    standing = comparison.standing
    if standing.forced:
        digests = ", ".join(dict.fromkeys(group.protocol.digest for group in standing.groups))
        yield (
            f"Forced: these scores were made under different protocols ({digests}). They are not comparable, "
            "and the order may come from the protocols alone."
        )
    if len(standing.tasks) > 1:
        yield "Networks that are told different things do different tasks; each task has its own order."
    yield from _rates(comparison)
    if comparison.trouble:
        yield f"No curves: {comparison.trouble}."
    reasons = {name: costs.reason for name, costs in comparison.costs.items() if costs.reason}
    if reasons:
        yield f"Costs of {', '.join(reasons)} are not counted: {next(iter(reasons.values()))}."


def _rates(comparison: Comparison) -> Iterator[str]:
    runs = [run for group in comparison.groups for run in group.runs]
    if any(run.jobs is not None and run.jobs > 1 for run in runs):
        yield "Rates (images/s) are unreliable: some runs shared the machine."
    machines = {(run.environment.get("platform"), run.environment.get("torch")) for run in runs}
    if len(machines) > 1:
        yield "Rates (images/s) are of different machines or versions of torch."
