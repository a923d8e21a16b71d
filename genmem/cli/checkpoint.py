"""`genmem checkpoint`: weights from and to files of other projects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from genmem.cli.options import checkpoint_option, plugin_option

if TYPE_CHECKING:
    from genmem.exchange.importing import Imported


@click.group("checkpoint", short_help="Import and export weights.")
def command() -> None:
    """Import weights that other projects published, and export those of a run."""


def _parse_shape(
    _ctx: click.Context, _option: click.Parameter, text: str | None
) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise click.BadParameter(f"expected C,H,W, three whole numbers, got {text!r}")
    channels, height, width = map(int, parts)
    return channels, height, width


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", required=True, help="Whose file it is; `genmem plugins` lists the formats.")
@click.option(
    "--recipe", help="What to run the weights in: a file or a shipped name; the layout's if absent."
)
@click.option("--reinit-labels", is_flag=True, help="Start the label table anew for another set of classes.")
@click.option(
    "--weights-time", type=click.Choice(["data0", "data1"]), help="Time of the data; the layout's if absent."
)
@click.option("--shape", metavar="C,H,W", callback=_parse_shape, help="Of a sample; square if absent.")
@plugin_option
def import_(
    file: Path,
    out: Path,
    layout: str,
    recipe: str | None,
    reinit_labels: bool,
    weights_time: str | None,
    shape: tuple[int, int, int] | None,
    plugins: tuple[Path, ...],
) -> None:
    """Make a run folder OUT from a FILE of weights, ready for `genmem sample OUT`.

    FILE is a state dict, a dict with `ema` or `model` in it, or safetensors. No code in it is run.

    \b
    Examples:
      genmem checkpoint import SiT-XL-2-256x256.pt runs/sit-xl --layout sit
      genmem checkpoint import last.pt runs/repa --layout repa --recipe mine.toml
    """
    from genmem.exchange.importing import import_weights

    imported = import_weights(
        file,
        out,
        layout,
        recipe=recipe,
        reinit_labels=reinit_labels,
        weights_time=cast("Literal['data0', 'data1'] | None", weights_time),
        shape=shape,
        plugins=plugins,
        argv=sys.argv,
    )
    _tell(imported)


def _tell(imported: Imported) -> None:
    """List what became of every tensor that was not kept whole."""
    click.echo(f"{imported.kept} tensors kept, data at t = {imported.weights_time[-1]}: {imported.folder}")
    for name in imported.ignored:
        click.echo(f"ignored        {name}: no weights")
    for name in imported.dropped:
        click.echo(f"dropped        {name}: no part of the backbone")
    for name, how in imported.cut.items():
        click.echo(f"cut            {name}: {how}")
    for name in imported.anew:
        click.echo(f"initialised    {name}: not from the file")


@command.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def convert(file: Path, out: Path) -> None:
    """Write the tensors that FILE holds in a pickle to OUT as safetensors. No code in it is run.

    Tokenizers and encoders read their weights from safetensors files only.

    \b
    Example:
      genmem checkpoint convert vavae.pt vavae.safetensors
    """
    from genmem.exchange.converting import convert_weights

    click.echo(f"{convert_weights(file, out)} tensors: {out}")


@command.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--layout", help="Whose names to write; the backbone's own if absent.")
@click.option("--weights", help='An EMA\'s name, or "online"; what the recipe scores if absent.')
@checkpoint_option
@plugin_option
def export(
    run: Path,
    file: Path,
    layout: str | None,
    weights: str | None,
    checkpoint: int | None,
    plugins: tuple[Path, ...],
) -> None:
    """Write the network of a RUN to FILE (safetensors), and its recipe beside it.

    \b
    Example:
      genmem checkpoint export runs/mine mine.safetensors --layout sit
    """
    from genmem.exchange.exporting import export_weights

    exported = export_weights(
        run, file, layout=layout, weights=weights, checkpoint=checkpoint, plugins=plugins
    )
    click.echo(f"{exported.count} tensors: {exported.file}\nrecipe: {exported.recipe}")
    if exported.note:
        click.secho(exported.note, fg="yellow", err=True)
