"""What `genmem sweep` does: plan, run what is missing, put what there is in a table and a plot."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from genmem.data.files import replace_file
from genmem.sweep.commands import next_words
from genmem.sweep.folders import Trained
from genmem.sweep.notes import notes
from genmem.sweep.outcome import Outcome, outcome_of
from genmem.sweep.plan import Plan
from genmem.sweep.plot import plot
from genmem.sweep.record import to_json
from genmem.sweep.text import header, lines, markdown
from genmem.terminal import Cell, Column, fit


def print_commands(plan: Plan) -> None:
    """Print a command line for everything that can be run now, one on a line, quoted for a shell."""
    refuse_strangers(plan)
    for run in plan.runs():
        for words in next_words(run, plan.plugins):
            print(shlex.join(words))


def run_sweep(plan: Plan, jobs: int, console: Console) -> bool:
    """Run what is missing, then collect; returns whether everything went well."""
    from genmem.sweep.running import run_missing

    refuse_strangers(plan)
    failed = run_missing(plan, jobs, console)
    collect(plan, console)
    if failed:
        names = ", ".join(run.label for run in failed)
        console.print(f"{len(failed)} runs failed: {names}; the same command tries them again", style="red")
    return not failed


def collect(plan: Plan, console: Console) -> None:
    """Write sweep.json, sweep.md and sweep.png from what there is, and show the table."""
    refuse_strangers(plan)
    outcome = outcome_of(plan)
    record = json.dumps(to_json(outcome), indent=1)
    for name, text in (("sweep.json", record), ("sweep.md", markdown(outcome))):
        with replace_file(plan.out / name) as file:
            file.write(text.encode())
    _show(outcome, console)
    trouble = plot(outcome, plan.out / "sweep.png")
    written = ["sweep.json", "sweep.md"] + ([] if trouble else ["sweep.png"])
    if trouble:
        console.print(trouble, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written: {', '.join(str(plan.out / name) for name in written)}", soft_wrap=True)


def refuse_strangers(plan: Plan) -> None:
    """Look into every run folder that is there already.

    Raises:
        ValueError: Some hold runs of other recipes; every one is told, with the keys that differ.
    """
    faults = []
    for run in plan.runs():
        folder = Trained(run).folder
        try:
            if folder.recipe.exists():
                folder.check(run.recipe)
        except ValueError as error:
            faults.append(f"{run.label}: {error}")
    if faults:
        raise ValueError("\n".join(faults))


def _show(outcome: Outcome, console: Console) -> None:
    for table in tables(outcome, console.width):
        console.print(table)
    for note in notes(outcome):
        console.print(note.replace("**", ""), highlight=False, markup=False, soft_wrap=True)


def tables(outcome: Outcome, width: int) -> Iterator[Table]:
    """Every score, in as many tables as the terminal's width asks for."""
    first, *titles = header(outcome, outcome.columns)
    rows = lines(outcome, outcome.columns)
    if not rows:
        return
    names, *columns = zip(*rows, strict=True)
    cells = [[Cell(tuple(text.replace(" (", "\n(").split("\n"))) for text in column] for column in columns]
    whole = [Column(title, column) for title, column in zip(titles, cells, strict=True)]
    yield from fit(outcome.name, first, names, whole, width)
