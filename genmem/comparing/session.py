"""What `genmem compare` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from genmem.comparing.caveats import general_caveats
from genmem.comparing.comparison import Comparison, compare
from genmem.comparing.differences import differences
from genmem.comparing.page import render
from genmem.comparing.tables import Sheet, cost_table, score_table, to_json
from genmem.comparing.verdict import verdicts
from genmem.data.files import write_text
from genmem.training.progress import preparation_progress

WIDE = 10_000
"""Columns of a terminal in which every table fits."""


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
    whole = _table("scores: mean ± standard deviation", score_table(found))
    if console.measure(whole, options=console.options.update(width=WIDE)).maximum > console.width:
        whole = _table("scores: mean ± standard deviation", score_table(found, [found.standing.headline]))
        console.print("this terminal is too narrow for all scores; --json and the page have them")
    console.print(whole)
    console.print(_table("costs", cost_table(found)))
    console.print(_differences(found))
    for one in verdicts(found):
        told = [f"{said.about}: {said.text}" for said in one.statements]
        lines = [*told, *one.caveats, f"protocol {one.digest}: {one.protocol}"]
        console.print(f"\n{one.told}", style="bold", highlight=False, markup=False)
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for line in general_caveats(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(title: str, sheet: Sheet) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("run")
    for name in sheet.titles:
        table.add_column(Text(name), justify="right")
    for block in sheet.blocks:
        if block.told and len(sheet.blocks) > 1:
            table.add_row(Text(f"– {block.told} –", style="italic"))
        for line in block.lines:
            marked = zip(line.cells, line.best, strict=True)
            rank = f"{line.rank}. " if line.rank else ""
            name = f"{rank}{line.name}" + (f"\n  {line.note}" if line.note else "")
            table.add_row(Text(name), *(Text(cell, style="bold" if best else "") for cell, best in marked))
        table.add_section()
    return table


def _differences(found: Comparison) -> Table:
    table = Table(title="where the recipes differ", title_justify="left")
    table.add_column("key")
    for group in found.groups:
        table.add_column(Text(group.name))
    for one in differences(found.groups):
        cells = zip(one.values, one.changed, strict=True)
        table.add_row(Text(one.key), *(Text(value, style="bold" if other else "") for value, other in cells))
    return table
