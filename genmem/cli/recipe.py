"""`genmem recipe`: show, list, copy, schema."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import plugin_option, recipe_arguments
from genmem.cli.recipe_lines import lines_of


@click.group("recipe", short_help="Show, list and copy recipes; print their schema.")
def command() -> None:
    """Show, list and copy recipes; print their schema."""


@command.command("show")
@recipe_arguments
def show(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...]) -> None:
    """Print a recipe as it will run: `extends` followed, overrides laid over, defaults written out.

    \b
    Examples:
      genmem recipe show quickstart
      genmem recipe show my.toml --backbone.depth=8 > resolved.toml
    """
    from genmem.recipe import dump, load

    click.echo(dump(load(recipe, overrides, plugins)), nl=False)


@command.command("list")
@click.argument("begin", default="")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_(begin: str, as_json: bool) -> None:
    """List the recipes that come with genmem: parameters, MACs of one forward, published score.

    Sizes are worked out from settings, no data are needed; "-" where neither the recipe ([data.expect]) nor
    its source says what the data hold: `genmem profile` measures those. Scores are others', borrowed: the
    recipe says whose; "-" where nobody printed one. Piped, a recipe is one line.

    \b
    Examples:
      genmem recipe list
      genmem recipe list imagenet256/gmem
    """
    import json
    import shutil
    import sys

    from genmem.host import load_catalog
    from genmem.recipe.overview import overview

    entries = {name: entry for name, entry in overview(load_catalog()).items() if name.startswith(begin)}
    if not entries:
        raise click.UsageError(f"no shipped recipe begins with {begin!r}; `genmem recipe list` shows all")
    if as_json:
        click.echo(json.dumps({name: entry.to_json() for name, entry in entries.items()}, indent=1))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines_of(entries, width):
        click.echo(line)


@command.command("copy")
@click.argument("name")
@click.argument("dest", type=click.Path(path_type=Path), required=False)
def copy(name: str, dest: Path | None) -> None:
    """Copy a shipped recipe to DEST, a file or a folder; here if absent. Nothing is overwritten.

    \b
    Example:
      genmem recipe copy quickstart mine.toml
    """
    from genmem.recipe.shipped import copy_shipped

    try:
        click.echo(copy_shipped(name, dest or Path()))
    except (FileExistsError, LookupError) as error:
        raise click.UsageError(str(error.args[0])) from error


@command.command("schema")
@plugin_option
def schema(plugins: tuple[Path, ...]) -> None:
    """Print the JSON Schema of recipes, from the plugins installed here.

    \b
    Example:
      genmem recipe schema > recipe.schema.json      and, on a recipe's first line,
      #:schema recipe.schema.json                    for editors that complete and check TOML
    """
    import json

    from genmem.host import load_catalog
    from genmem.recipe.schema import schema_of

    click.echo(json.dumps(schema_of(load_catalog(plugins)), indent=1, ensure_ascii=False))
