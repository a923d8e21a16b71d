"""`genmem bank`: build a bank, look at one. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import recipe_arguments


@click.group()
def bank() -> None:
    """Build memory banks, and look at them."""


@bank.command("build", short_help="Build the banks of a recipe.")
@recipe_arguments
def build(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...]) -> None:
    """Build every svd-bank of a recipe that is missing, and check those that are there.

    The data set is prepared first if it is missing.

    \b
    Examples:
      genmem bank build recipes/quickstart.toml
      genmem bank build quickstart --memory.bank.rank=8 --memory.bank.path=data/digits/bank8
    """
    from genmem.data.preparation import prepare
    from genmem.recipe import load
    from genmem_bank import SvdBankConfig

    loaded = load(recipe, overrides, plugins)
    configs = [seat.config for seat in loaded.memory.values() if isinstance(seat.config, SvdBankConfig)]
    if not configs:
        raise click.ClickException(f'{recipe}: no [memory.NAME] with use = "svd-bank", so nothing to build')
    try:
        dataset = prepare(loaded.data)
        for config in configs:
            config.prepare(dataset)
            _show(Path(config.path))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@bank.command("info", short_help="What a bank is.")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
def info(path: Path) -> None:
    """Print what the bank in folder PATH is, and check that its files are unchanged."""
    from genmem_bank.files import hash_rows, map_rows, read_basis, read_card

    try:
        card = read_card(path)
        read_basis(path, card)
        if hash_rows(map_rows(path, card)) != card.rows_hash:
            raise ValueError(f"{path / card.rows_file}: changed since the bank was built")
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _show(path)


def _show(path: Path) -> None:
    import json

    from genmem_bank.files import read_card

    card = read_card(path)
    size = sum((path / name).stat().st_size for name in (card.basis_file, card.rows_file))
    lines = {
        "rows": f"{card.rows:,}",
        "encoder": f"{card.encoder}, width {card.width}",
        "rank": f"{card.rank}, which keeps {card.energy:.2%} of the energy about the mean",
        "stored": f"{size:,} bytes, {card.dtype}",
        "identity": card.identity,
        "rows' hash": card.rows_hash,
        "made from": json.dumps(card.provenance),
    }
    click.echo(f"bank {path}")
    for name, value in lines.items():
        click.echo(f"  {name:<11}{value}")
