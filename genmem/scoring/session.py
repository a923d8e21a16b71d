"""What `genmem evaluate` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from genmem.api import Run, load
from genmem.data.files import replace_file
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.full import full_report
from genmem.scoring.report import tell_memory
from genmem.scoring.run_protocol import protocol_of
from genmem.scoring.table import ScoreTable


def evaluate(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    seed: int | None,
    weights: str | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    out: Path | None = None,
) -> None:
    """Score the newest checkpoint of a run and print the table.

    Raises:
        FileNotFoundError: No run, or no checkpoint in it.
        ValueError: An override of what the weights were trained as.
    """
    run = load(path, overrides=overrides, plugins=plugins)
    seed = run.recipe.evaluate.seed if seed is None else seed
    weights = weights or run.recipe.evaluate.weights
    console = Console(stderr=as_json)
    with console.status("scoring"):
        record, table = _score(run, seed, weights)
    if out is not None:
        with replace_file(out) as file:
            file.write(json.dumps(record, indent=1).encode())
    if as_json:
        print(json.dumps(record, indent=1))
        return
    console.print(table)
    if record["memory"]:
        console.print(tell_memory(record["memory"]), highlight=False, soft_wrap=True)
    console.print(f"{run.images_seen:,} images seen, weights {weights!r}, seed {seed}", highlight=False)


def _score(run: Run, seed: int, weights: str) -> tuple[dict[str, Any], ScoreTable]:
    generator = run.generator(weights)
    protocol = protocol_of(run.recipe, run.dataset, generator.conditioner.store, seed, weights)
    evaluation = Evaluation(run.recipe, run.dataset, run.device)
    report = full_report(evaluation, generator, protocol.digest, seed)
    assert report is not None  # one process
    table = report.table
    record = {"images": run.images_seen, "protocol": protocol.to_json(), "table": table.to_json()}
    return record | {"memory": report.memory}, table
