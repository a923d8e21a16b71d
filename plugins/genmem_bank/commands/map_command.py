"""`genmem bank map`. Nothing heavy is imported before the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genmem.cli.options import RecipeArgument, plugin_option

TEXT = "ngrams"
"""The encoder of text that needs no weights."""


@click.command("map", short_help="A map to rows, from text or another encoder.")
@click.option("--data", required=True, metavar="FOLDER|RECIPE", help="The set that the bank was made of.")
@click.option(
    "--encoder",
    default=TEXT,
    show_default=True,
    help="Of text; or of pictures: one of the set's or the recipe's, or a registered one.",
)
@click.option("--name", help="Of the map; the encoder's if absent.")
@click.option(
    "--names",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A line of names for each class, commas between; the set's class names if absent.",
)
@click.option("--loss", type=click.Choice(["mse", "clip"]), help="mse for pictures, clip for text if absent.")
@click.option("--epochs", type=click.IntRange(1), help="1 for pictures, 60 for text if absent.")
@click.option("--hidden", type=click.IntRange(1), help="Width of the hidden layer; a row's if absent.")
@click.option("--batch", default=256, show_default=True, type=click.IntRange(2), help="Pairs in a step.")
@click.option("--lr", default=1e-4, show_default=True, type=click.FloatRange(0, min_open=True), help="Step.")
@click.option("--seed", default=0, show_default=True, help="Of the weights and the order.")
@click.option("--device", default="auto", show_default=True, help="Where it is computed.")
@plugin_option
def map_(bank: str, overrides: tuple[str, ...], plugins: tuple[Path, ...], **wanted: Any) -> None:
    """Train a small network to the rows of the bank in folder BANK, and keep it with them.

    From text: a name of its class for each picture (CLIP's loss). From another encoder of pictures: its
    feature of the same picture (mean square). Rows and network stay as they are; `genmem sample RUN
    --text` or `--memory PICTURE --map NAME` uses it. What is found on held-out pictures is printed.

    \b
    Examples:
      genmem bank map data/digits/bank --data data/digits
      genmem bank map data/digits/bank --data data/digits --names names.txt --epochs 200 --lr 1e-3
      genmem bank map data/digits/bank --data data/digits --encoder random-conv --epochs 200 --lr 1e-3
      genmem bank map data/my/bank --data data/my --encoder bert --encoder.path=weights/bert-base-uncased
    """
    from genmem.recipe import RecipeError
    from genmem_bank.looking.description import show_map
    from genmem_bank.mapping.making import Order, make_map

    try:
        mapped = make_map(Order(bank=Path(bank), **wanted), overrides, plugins)
    except (OSError, ValueError, RecipeError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{bank}: map {show_map(mapped)}")


map_.params.insert(0, RecipeArgument(["bank"], wanted="the folder of a bank is wanted"))
