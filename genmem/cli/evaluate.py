"""`genmem evaluate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("evaluate", short_help="Score a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--seed", type=int, help="Of noise and conditions; the recipe's if absent.")
@click.option("--weights", help="An EMA's name, or \"online\"; the recipe's if absent.")
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="An un-packaged plugin file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
def command(
    run: Path, seed: int | None, weights: str | None, plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Score the newest checkpoint of a run, beside noise, a Gaussian and the floor.

    \b
    Examples:
      genmem evaluate runs/quickstart
      genmem evaluate runs/quickstart --seed 1 --json
    """
    from genmem.scoring.session import evaluate

    evaluate(run, seed=seed, weights=weights, plugins=plugins, as_json=as_json)
