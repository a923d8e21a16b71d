"""`genmem sample`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sample", short_help="Make pictures from a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--num", default=64, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, help="Picture i of a seed is always the same one.")
@click.option("--weights", help='An EMA\'s name, or "online"; what the recipe scores if absent.')
@click.option("--out", type=click.Path(path_type=Path), help="Folder; RUN/samples/seed-S if absent.")
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="An un-packaged plugin file."
)
def command(
    run: Path, num: int, seed: int, weights: str | None, out: Path | None, plugins: tuple[Path, ...]
) -> None:
    """Make pictures from the newest checkpoint of a run: one PNG each, and a grid.

    \b
    Examples:
      genmem sample runs/quickstart
      genmem sample runs/quickstart --num 1000 --seed 7 --out pictures
    """
    from genmem.sampling.session import sample

    sample(run, num=num, seed=seed, weights=weights, out=out, plugins=plugins)
