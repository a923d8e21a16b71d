"""`genmem profile`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import recipe_arguments


@click.command("profile", short_help="Parameters, MACs and memory of a recipe.")
@recipe_arguments
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...], as_json: bool) -> None:
    """Count a recipe's parameters, forward MACs, activations, and bytes of its memories.

    \b
    Examples:
      genmem profile quickstart
      genmem profile quickstart --backbone.depth=8 --json
    """
    from genmem.profiling.session import profile

    profile(recipe, overrides, plugins, as_json=as_json)
