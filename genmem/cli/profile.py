"""`genmem profile`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import recipe_arguments


@click.command("profile", short_help="Parameters, MACs, FLOPs and memory of a recipe.")
@recipe_arguments
@click.option("--against", metavar="RECIPE", help="Show what changes from this recipe to the first.")
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes that would share a step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    against: str | None,
    nproc: int,
    as_json: bool,
) -> None:
    """Count what a recipe costs, in training and at inference, without running it.

    Parameters and forward MACs by module, FLOPs of training on one image (forward, backward, objectives
    and their teachers), and memory by part. Nothing is trained, and a recipe that says what its data hold
    ([data.expect]) needs no data. Overrides are laid over both recipes.

    \b
    Examples:
      genmem profile quickstart
      genmem profile quickstart --backbone.depth=8 --json
      genmem profile digits/repulsor --against digits/label          what does this objective cost?
      genmem profile imagenet256/sit-xl2 --nproc 8 --train.micro_batch=16
    """
    from genmem.profiling.session import profile

    profile(recipe, overrides, plugins, against=against, world=nproc, as_json=as_json)
