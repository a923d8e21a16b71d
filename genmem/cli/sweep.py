"""`genmem sweep`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import recipe_arguments


@click.command("sweep", short_help="Run a grid of recipes; one table and one plot.")
@recipe_arguments
@click.option("--seeds", type=click.IntRange(min=1), help="Runs of each configuration; else the recipe's.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; runs/NAME-sweep if absent.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Runs at a time.")
@click.option("--print", "only_print", is_flag=True, help="Run nothing; print command lines.")
@click.option("--table", "only_table", is_flag=True, help="Run nothing; make the table of what there is.")
@click.pass_context
def command(
    ctx: click.Context,
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    seeds: int | None,
    out: Path | None,
    jobs: int,
    only_print: bool,
    only_table: bool,
) -> None:
    """Run a recipe over a grid: a comma in an override's value makes an axis.

    Runs what is missing and goes on with what was interrupted; the same command again only makes the
    table. Axes of sampler, guidance and evaluate train nothing: each run is scored several times.
    A [sweep] table in the recipe may say all this, and what to compare with. Exits with 1 if a run failed.

    \b
    Examples:
      genmem sweep quickstart --memory.negatives.rows=4096,16384 --seeds 3
      genmem sweep quickstart --sampler.steps=50,25,10      one training, three scorings
      genmem sweep my.toml --jobs 2                         the [sweep] of my.toml, two at a time
      genmem sweep my.toml --print > lines.txt              for a cluster, one run on a line
      genmem sweep my.toml --table                          what there is, without running
    """
    if only_print and only_table:
        raise click.UsageError("--print and --table exclude each other", ctx)
    from genmem.sweep.planning import plan

    planned = plan(recipe, overrides, plugins, seeds=seeds, out=out)

    from rich.console import Console

    from genmem.sweep.session import collect, print_commands, run_sweep

    if only_print:
        print_commands(planned)
    elif only_table:
        collect(planned, Console())
    elif not run_sweep(planned, jobs, Console()):
        ctx.exit(1)
