"""What `genmem compare` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from genmem.comparing.caveats import general_caveats
from genmem.comparing.comparison import Comparison, compare
from genmem.comparing.differences import differences
from genmem.comparing.page import render
from genmem.comparing.tables import (
    Line,
    Sheet,
    sampling_table,
    score_table,
    to_json,
    training_table,
)
from genmem.comparing.verdict import verdicts
from genmem.data.files import write_text
from genmem.terminal import Cell, Column, fit
from genmem.training.progress import preparation_progress


def run_comparison(
    paths: Sequence[Path],
    *,
    by: str | None,
    reach: float | None,
    force: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    out: Path | None,
    words: Sequence[str],
) -> None:
    """Compare, print, and write the page where one is asked for.

    Raises:
        FileNotFoundError, ValueError: As `compare`; nothing is written then.
    """
    console = Console(stderr=as_json)
    with preparation_progress(Console(stderr=True), shown=True) as tell:
        found = compare(paths, by=by, reach=reach, force=force, plugins=plugins, tell=tell)
    if out is not None:
        write_text(out, render(found, words))
    if as_json:
        print(json.dumps(to_json(found), indent=1))
    else:
        show(found, console)
    if out is not None:
        console.print(f"written: {out}", highlight=False, markup=False, soft_wrap=True)


def show(found: Comparison, console: Console) -> None:
    """Tables, then the verdict and what must be said with it."""
    for table in (
        *_tables("scores, mean ± standard deviation", score_table(found), console.width),
        *_tables("what a sample costs", sampling_table(found), console.width),
        *_tables("what the training took", training_table(found), console.width),
        *_differences(found, console.width),
    ):
        console.print(table)
    for one in verdicts(found):
        told = [f"{said.about}: {said.text}" for said in one.statements]
        lines = [*told, *one.caveats, f"protocol {one.digest}: {one.protocol}"]
        console.print(f"\n{one.told}", style="bold", highlight=False, markup=False)
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for line in general_caveats(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _tables(title: str, sheet: Sheet, width: int) -> Iterator[Table]:
    """Those of each task."""
    for block in sheet.blocks:
        told = f"{title}: {block.told}" if block.told else title
        names = [_name(line, block.told) for line in block.lines]
        columns = [
            Column(name, [_cell(line.cells[place], line.best[place]) for line in block.lines])
            for place, name in enumerate(sheet.titles)
        ]
        yield from fit(told, "run", names, columns, width)


def _name(line: Line, told: str) -> str:
    """With what a row with a memory must be quoted with, where the title does not say it."""
    rank = f"{line.rank}. " if line.rank else ""
    return f"{rank}{line.name}" + (f"\n  {line.note}" if line.note and line.note not in told else "")


def _cell(text: str, best: bool) -> Cell:
    value, spread, sd = text.partition(" ± ")
    return Cell((value, f"± {sd}") if spread else (value,), "bold" if best else "")


def _differences(found: Comparison, width: int) -> Iterator[Table]:
    lines = differences(found.groups)
    columns = [
        Column(group.name, [Cell((one.values[n],), "bold" if one.changed[n] else "") for one in lines])
        for n, group in enumerate(found.groups)
    ]
    if lines:
        yield from fit("where the recipes differ", "key", [one.key for one in lines], columns, width, "left")
