"""`genmem bank`: build a bank, look at one, import one. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from genmem.cli.options import recipe_arguments

if TYPE_CHECKING:
    from genmem.recipe import Recipe
    from genmem_bank import SvdBankConfig
    from genmem_bank.storage.card import Card


@click.group()
def bank() -> None:
    """Build memory banks, and look at them."""


@bank.command("build", short_help="Build a bank, or those of a recipe.")
@recipe_arguments
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the bank.")
@click.option("--rank", type=click.IntRange(1), help="Dimensions to keep.")
@click.option("--energy", type=click.FloatRange(0, 1, min_open=True), help="Keep this share of the energy.")
@click.option("--raw", is_flag=True, help="Keep the rows as they are.")
@click.option("--encoder", help="The feature: one of the set's, or an encoder that makes it.")
@click.option("--rows", type=click.IntRange(1), help="So many samples, drawn.")
@click.option("--per-class", type=click.IntRange(1), help="So many samples of each class, drawn.")
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--views", type=click.IntRange(1, 2), help="2: mirrored twins too. As the set has if absent.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), help="Stored as; fp32 if absent.")
@click.option("--device", default="auto", show_default=True, help="Where an encoder computes.")
@click.option("--replace", is_flag=True, help="Put it in place of a bank that is there.")
def build(
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    out: Path | None,
    raw: bool,
    **wanted: Any,
) -> None:
    """Build a bank of a data set's features, in two passes and little memory.

    RECIPE is a recipe, the folder of a prepared set, or of the shards of one split. With a recipe
    alone, every svd-bank of it that is missing is built, and those that are there are checked. With
    options and no -o, the recipe's bank is built as the options say. A build that was killed goes on
    where it was. Under torchrun the processes share the rows.

    \b
    Examples:
      genmem bank build quickstart
      genmem bank build data/digits --encoder pca --rank 8 -o data/digits/bank8
      genmem bank build data/digits --encoder random-conv --energy 0.95 -o data/digits/conv
      genmem bank build data/imagenet --per-class 640 --rank 384 -o data/half
    """
    if out is None and not raw and not any(wanted[name] for name in wanted.keys() - {"seed", "device"}):
        _build_recipes(recipe, overrides, plugins)
        return
    _refuse_contradictions(raw, wanted)
    from genmem_bank.building.ordering import Order, build_ordered

    if out is None:
        bank_of_recipe = _only_bank(recipe, overrides, plugins)
        out, wanted["encoder"] = Path(bank_of_recipe.path), wanted["encoder"] or bank_of_recipe.encoder
    wanted["dtype"] = wanted["dtype"] or "fp32"
    try:
        card = build_ordered(Order(target=recipe, out=out, **wanted), overrides, plugins)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if card is not None:
        _show(out, card)
        _draw(out, card)


@bank.command("info", short_help="What a bank is.")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(path: Path, as_json: bool) -> None:
    """Print what the bank in folder PATH is, and check that its files are unchanged.

    \b
    Examples:
      genmem bank info data/digits/bank8
      genmem bank info data/digits/bank8 --json
    """
    from genmem_bank.storage.card import read_card
    from genmem_bank.storage.verification import verify

    try:
        card = read_card(path)
        verify(path, card)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        from genmem_bank.looking.description import describe_bank

        click.echo(json.dumps(describe_bank(path, card), indent=1))
    else:
        _show(path, card)


@bank.command("import", short_help="A bank from a file that GMem published.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The bank."
)
@click.option("--encoder", required=True, help="Name of the feature its rows are, as recipes call it.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True)
def import_(file: Path, out: Path, encoder: str, dtype: Literal["fp32", "bf16", "fp16"]) -> None:
    """Make a bank of FILE: rows, a decomposition of them, or a checkpoint that holds rows.

    Nothing in the file is run. Rows are brought to norm 1, as GMem's code does whenever it reads one.

    \b
    Examples:
      genmem bank import imagenet_memory_bank.pth --encoder dinov2 -o data/imagenet-bank
    """
    from genmem_bank.changing.importing import import_bank

    try:
        imported = import_bank(file, out, encoder, dtype)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _show(out, imported.card)
    if imported.scale != 1:
        click.echo(f"  rows had a norm of about {imported.scale:.4g}; they were divided by it")
    if imported.left_out:
        click.echo(f"  left out: {', '.join(imported.left_out)}")


def _refuse_contradictions(raw: bool, wanted: dict[str, Any]) -> None:
    if [wanted["rank"] is not None, wanted["energy"] is not None, raw].count(True) != 1:
        raise click.UsageError("say one of --rank, --energy and --raw")
    if wanted["rows"] is not None and wanted["per_class"] is not None:
        raise click.UsageError("say --rows or --per-class, not both")
    if wanted["dtype"] == "fp16" and not raw:
        raise click.UsageError("--dtype fp16 is for --raw; coefficients are stored in fp32 or bf16")


def _build_recipes(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...]) -> None:
    from genmem.data.preparation import prepare
    from genmem.recipe import load
    from genmem_bank.storage.card import read_card

    loaded = load(recipe, overrides, plugins)
    configs = _banks_of(recipe, loaded)
    try:
        dataset = prepare(loaded.data)
        for config in configs:
            config.prepare(dataset)
            _show(Path(config.path), read_card(Path(config.path)))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _only_bank(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...]) -> SvdBankConfig:
    """The bank that options without -o are about."""
    from genmem.recipe import load

    if Path(recipe).is_dir():
        raise click.UsageError("say -o FOLDER: a data set does not name a bank's folder")
    configs = _banks_of(recipe, load(recipe, overrides, plugins))
    if len(configs) > 1:
        raise click.UsageError(f"say -o FOLDER: {recipe} has {len(configs)} banks")
    return configs[0]


def _banks_of(recipe: str, loaded: Recipe) -> list[SvdBankConfig]:
    from genmem_bank import SvdBankConfig

    configs = [seat.config for seat in loaded.memory.values() if isinstance(seat.config, SvdBankConfig)]
    if not configs:
        raise click.ClickException(
            f'{recipe}: no [memory.NAME] with use = "svd-bank", so nothing to build; '
            "for a bank of its data set say -o FOLDER and --rank, --energy or --raw"
        )
    return configs


def _show(path: Path, card: Card) -> None:
    from genmem_bank.looking.description import show_bank

    click.echo(show_bank(path, card))


def _draw(path: Path, card: Card) -> None:
    from genmem.extras import MissingExtra
    from genmem_bank.looking.spectrum import draw_spectrum

    if card.kind == "raw":
        return
    try:
        click.echo(f"  {'spectrum':<11}{draw_spectrum(path, card)}")
    except MissingExtra as error:
        click.echo(f"  {'spectrum':<11}not drawn: {error}")
