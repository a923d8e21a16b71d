"""What a person sees while a run goes on: a bar with rate, losses and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}{self._unit}" if task.speed else f"–{self._unit}", style="cyan")


class TrainingProgress:
    """A progress bar on rank 0; silent on the others."""

    def __init__(self, console: Console, total: int, done: int, *, shown: bool) -> None:
        """A bar for `total` images of which `done` are done."""
        self.console = console
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(" images/s"),
            TextColumn("{task.fields[mfu]}", style="cyan"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        # A narrow terminal has no room for the losses; metrics.jsonl has them all.
        if console.width >= 110:
            columns += (TextColumn("{task.fields[losses]}"),)
        self._bar = Progress(*columns, console=console, disable=not shown, speed_estimate_period=30)
        self._task = self._bar.add_task("train", total=total, completed=done, losses="", mfu="")

    def advance(self, images: int) -> None:
        """So many more images were seen."""
        self._bar.advance(self._task, images)

    def move_to(self, images: int) -> None:
        """So many images are seen now: the run went back."""
        self._bar.update(self._task, completed=images)

    def show(self, values: Mapping[str, float]) -> None:
        """Show the newest MFU, denoising loss and each objective's value beside the bar."""
        shown = {
            name: value
            for name, value in values.items()
            if name == "loss/denoise" or (name.startswith("objective/") and name.count("/") == 1)
        }
        short = "  ".join(f"{name.rsplit('/', 1)[-1]} {value:.3f}" for name, value in shown.items())
        mfu = f"{values['mfu']:.0%} MFU" if "mfu" in values else ""
        self._bar.update(self._task, losses=short, mfu=mfu)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


@contextmanager
def preparation_progress(console: Console, *, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each piece of preparation: `report(label, done, total)`. Gone when done."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate("/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not shown, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report
