"""`genmem check`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import recipes_arguments


@click.command("check", short_help="Find everything wrong with recipes, without running them.")
@recipes_arguments
@click.pass_context
def command(
    ctx: click.Context, recipes: tuple[str, ...], overrides: tuple[str, ...], plugins: tuple[Path, ...]
) -> None:
    """Find everything that is wrong with recipes, all at once, without running them.

    Of a recipe with a [sweep] table, every run of the sweep is checked. Exits with 0 if all are right
    and with 1 if one is not.

    \b
    Examples:
      genmem check recipes/*.toml
      genmem check quickstart --backbone.depth=8
      genmem check my.toml --plugin mine.py
    """
    from genmem.host import load_catalog
    from genmem.recipe import RecipeError, load
    from genmem.sweep.planning import plan

    catalog = load_catalog()
    failed = False
    for recipe in recipes:
        try:
            if load(recipe, overrides, plugins, catalog).sweep is not None:
                plan(recipe, overrides, plugins)
        except RecipeError as error:
            failed = True
            for problem in error.problems:
                click.secho(str(problem), fg="red", err=True)
        else:
            click.secho(f"{recipe}: ok", fg="green")
    if failed:
        ctx.exit(1)
