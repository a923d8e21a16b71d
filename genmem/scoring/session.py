"""What `genmem evaluate` does."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from genmem.api import load
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.full import full_report
from genmem.scoring.run_protocol import protocol_of


def evaluate(
    path: Path, *, seed: int | None, weights: str | None, plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Score the newest checkpoint of a run and print the table.

    Raises:
        FileNotFoundError: No run, or no checkpoint in it.
    """
    console = Console()
    run = load(path, plugins=plugins)
    seed = run.recipe.evaluate.seed if seed is None else seed
    weights = weights or run.recipe.evaluate.weights
    generator = run.generator(weights)
    protocol = protocol_of(run.recipe, run.dataset, generator.conditioner.store, seed, weights)
    evaluation = Evaluation(run.recipe, run.dataset, run.device)
    with console.status("scoring"):
        report = full_report(evaluation, generator, protocol.digest, seed)
    assert report is not None  # one process
    if as_json:
        record = {"images": run.images_seen, "protocol": protocol.to_json(), "table": report.table.to_json()}
        print(json.dumps(record, indent=1))
        return
    console.print(report.table)
    console.print(f"{run.images_seen:,} images seen, weights {weights!r}, seed {seed}", highlight=False)
