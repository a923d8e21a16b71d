"""What `genmem evaluate` does with a run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from genmem import collectives
from genmem.api import Run, load
from genmem.console import Terminal
from genmem.data.files import write_text
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.full import Report, full_report
from genmem.scoring.protocol import Protocol
from genmem.scoring.report import tell_memory
from genmem.scoring.run_protocol import protocol_of
from genmem.scoring.search import Search, search
from genmem.training.folder import RunFolder
from genmem.training.launch import process_group
from genmem.training.progress import preparation_progress


def evaluate(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    seeds: Sequence[int] = (),
    weights: str | None,
    checkpoint: int | None = None,
    plugins: tuple[Path, ...],
    as_json: bool,
    out: Path | None = None,
    budget: int | None = None,
    by: str | None = None,
) -> None:
    """Score a checkpoint of a run, print the table, and keep it in the run's folder.

    Every process of the group makes its share of the samples and looks at it; the first one scores.

    Args:
        path: The run's folder.
        overrides: Over its recipe; a comma in a value makes an axis, whose best setting is looked
            for first, on other noise.
        seeds: Of noise and conditions, one for each repetition; the recipe's if empty.
        weights: An EMA's name or "online"; the recipe's if absent. May have a comma.
        checkpoint: Images seen by the weights; those of the newest if absent.
        plugins: Un-packaged plugin files.
        as_json: Print the record in place of the table.
        out: A file to write the record to as well.
        budget: Samples for each setting of a search.
        by: The score a search goes by; the first column's if absent.

    Raises:
        FileNotFoundError: No run, no checkpoint in it, or not this one.
        ValueError: A damaged checkpoint, other data, an override of what the weights were trained as, a
            search that cannot be.
    """
    if weights is not None:
        overrides = (*overrides, f"--evaluate.weights={weights}")
    console = Terminal(stderr=as_json)
    opened = partial(load, path, plugins=plugins, checkpoint=checkpoint)
    with process_group(opened().device):
        found = search(opened, overrides, seeds=seeds, budget=budget, by=by, console=console)
        run = opened(overrides=found.overrides)
        scored = _score(run, seeds or (run.recipe.evaluate.seed,), console, found)
        if scored is None:
            return
        record, report = scored
        keep(run.folder, record)
    if out is not None:
        write_text(out, json.dumps(record, indent=1))
    if as_json:
        print(json.dumps(record, indent=1))
    else:
        _show(run, record, report, found, console)


def keep(folder: RunFolder, record: dict[str, Any]) -> Path:
    """Write a record beside the run's others, under its images and protocol."""
    digest = Protocol.from_json(record["protocol"]).digest
    path = folder.evaluations / f"{record['images']:012d}-{digest}.json"
    write_text(path, json.dumps(record, indent=1))
    return path


def _score(
    run: Run, seeds: Sequence[int], console: Console, found: Search
) -> tuple[dict[str, Any], Report] | None:
    """The record and what it is of; None but on rank 0."""
    weights = run.recipe.evaluate.weights
    generator = run.generator(weights)
    store = generator.conditioner.store
    protocol = protocol_of(run.recipe, run.dataset, store, seeds, weights)
    lead = collectives.rank() == 0
    with console.status("reading references") if lead else nullcontext():
        evaluation = Evaluation(run.recipe, run.dataset, run.device)
    with preparation_progress(console, shown=lead) as bar:
        start, stop = collectives.share(run.recipe.evaluate.samples)
        total = (stop - start) * len(seeds) * (1 if store is None else 2)
        report = full_report(evaluation, generator, protocol, _Ticks(bar, total))
    if report is None:
        return None
    record = {
        "images": run.images_seen,
        "evaluations_per_sample": report.evaluations,
        "protocol": protocol.to_json(),
        "table": report.table.to_json(),
        "memory": report.memory,
        "time": time.time(),
    }
    return record | ({"search": found.to_json()} if found.trials else {}), report


class _Ticks:
    """Counts samples of all repetitions on one bar."""

    def __init__(self, bar: Any, total: int) -> None:
        self._bar, self._total, self._done = bar, total, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._bar("sampling", self._done, self._total)


def _show(run: Run, record: dict[str, Any], report: Report, found: Search, console: Console) -> None:
    if found.trials:
        console.print(found)
    console.print(report.table)
    if report.memory:
        console.print(tell_memory(report.memory), highlight=False, soft_wrap=True)
    seeds = ", ".join(map(str, record["protocol"]["seeds"]))
    several = " (the table has their mean, standard deviation and least)" if "," in seeds else ""
    told = f"{run.images_seen:,} images seen, weights {run.recipe.evaluate.weights!r}"
    console.print(f"{told}, noise of seed {seeds}{several}", highlight=False, soft_wrap=True)
