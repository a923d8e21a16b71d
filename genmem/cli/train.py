"""`genmem train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from genmem.cli.options import recipe_arguments


@click.command("train", short_help="Train a recipe, or go on with its run.")
@recipe_arguments
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/NAME if absent.")
@click.option("--nproc", default=1, show_default=True, help="Processes on this machine.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Save and stop after so long.")
@click.option("--dry-run", is_flag=True, help="Say what the run would need on 8, 64 and 512 processes.")
@click.option("--images-per-s", type=click.FloatRange(0, min_open=True), help="Rate, for --dry-run.")
def command(
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    out: Path | None,
    nproc: int,
    minutes: float | None,
    dry_run: bool,
    images_per_s: float | None,
) -> None:
    """Train a recipe: a file, or the name of a shipped one.

    Shards and banks that are missing are made first. The same command again goes on from the last
    checkpoint. Ctrl-C saves and stops. Under torchrun or srun, leave --nproc out.

    \b
    Examples:
      genmem train recipes/quickstart.toml
      genmem train quickstart --train.images=20K --out runs/short
      genmem train quickstart --nproc 2
      genmem train my.toml --minutes 55          (for a queue that gives an hour)
      torchrun --nproc_per_node 8 -m -- genmem train my.toml
      srun --ntasks 8 --gpus-per-task 1 genmem train my.toml
      genmem train imagenet256/sit-xl2 --dry-run --images-per-s 2400
    """
    from genmem.recipe import load

    if images_per_s is not None and not dry_run:
        raise click.UsageError("--images-per-s is a rate to reckon with: it goes with --dry-run")
    # What is wrong with the recipe is told before torch is imported, which takes seconds.
    resolved = load(recipe, overrides, plugins)
    if dry_run:
        from genmem.profiling.session import foresee

        foresee(resolved, nproc, images_per_s)
        return

    from genmem.training.launch import spawn
    from genmem.training.session import run

    arguments = (recipe, overrides, plugins, out, sys.argv, minutes)
    if nproc == 1:
        run(*arguments)
    else:
        spawn(run, arguments, nproc)
