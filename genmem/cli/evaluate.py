"""`genmem evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import run_arguments


@click.command("evaluate", short_help="Score a run.")
@run_arguments
@click.option("--seed", type=int, help="Of noise and conditions; the recipe's if absent.")
@click.option("--weights", help="An EMA's name, or \"online\"; the recipe's if absent.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write that object to a file.")
def command(
    run: str,
    overrides: tuple[str, ...],
    seed: int | None,
    weights: str | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    out: Path | None,
) -> None:
    """Score the newest checkpoint of a run, beside noise, a Gaussian and the floor.

    Overrides may change how samples are made and scored: sampler, guidance, evaluate, and the memory
    that conditions (another bank, another way to draw).

    \b
    Examples:
      genmem evaluate runs/quickstart
      genmem evaluate runs/quickstart --seed 1 --json
      genmem evaluate runs/quickstart --sampler.steps=50
    """
    from genmem.scoring.session import evaluate

    evaluate(Path(run), overrides, seed=seed, weights=weights, plugins=plugins, as_json=as_json, out=out)
