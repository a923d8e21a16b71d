"""What a person sees while a sweep goes on: one bar over the images of all runs, with time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from genmem.sweep.folders import Trained
from genmem.sweep.plan import Plan, Run

PERIOD = 1.0
"""Seconds between two looks at the logs."""


class SweepProgress:
    """A bar; how far the runs have come is read from their logs."""

    def __init__(self, progress: Progress, task: TaskID, todo: Sequence[Run]) -> None:
        """Reads how far each run to do was left."""
        self._progress, self._task = progress, task
        self._seen = {run: Trained(run).images() for run in todo}
        self._update([])

    def show(self, running: Sequence[Run]) -> None:
        """Look at the runs under way, unless the last look was a moment ago."""
        if time.monotonic() - self._shown >= PERIOD or not running:
            self._seen.update({run: Trained(run).images() for run in running})
            self._update(running)

    def _update(self, running: Sequence[Run]) -> None:
        self._shown = time.monotonic()
        names = "  ".join(run.label for run in running)
        self._progress.update(self._task, completed=sum(self._seen.values()), running=names)


@contextmanager
def progress_bar(plan: Plan, todo: Sequence[Run], console: Console) -> Iterator[SweepProgress]:
    """The bar while the block runs.

    Args:
        plan: The sweep.
        todo: Its runs that are not complete.
        console: Where it is shown.
    """
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[running]}"),
    )
    complete = len(plan.runs()) - len(todo)
    title = f"{len(todo)} runs" + (f", {complete} complete" if complete else "")
    with Progress(*columns, console=console, speed_estimate_period=600, disable=not todo) as progress:
        total = sum(run.recipe.train.images for run in todo)
        yield SweepProgress(progress, progress.add_task(title, total=total, running=""), list(todo))
