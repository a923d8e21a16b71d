"""`genmem bank add`, `interpolate` and `search`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genmem.cli.options import plugin_option

if TYPE_CHECKING:
    import numpy as np

    from genmem_bank.changing.adding import Editor
    from genmem_bank.changing.pictures import PictureEncoder

_BANK = click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
_DATA = click.option(
    "--data",
    metavar="FOLDER|RECIPE",
    help="The set that the bank was made of: its encoder makes features of pictures.",
)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("add", short_help="Add pictures, or features, to a bank.")
@_BANK
@click.argument("pictures", nargs=-1, type=_FILE)
@click.option("--features", type=_FILE, help="A .npy file (rows, width), in place of pictures.")
@_DATA
@plugin_option
def add(
    path: Path,
    pictures: tuple[Path, ...],
    features: Path | None,
    data: str | None,
    plugins: tuple[Path, ...],
) -> None:
    """Add a row to the bank in PATH for each of PICTURES, or for each row of a file of features.

    Nothing is trained, and rows that are there stay as they are. The bank's identity stays the same, so
    models that were trained with it take the new rows. Killed, it leaves the old bank or the new one.

    \b
    Examples:
      genmem bank add data/digits/bank new.png --data data/digits
      genmem bank add data/digits/bank --features rows.npy
    """
    if bool(pictures) == (features is not None):
        raise click.UsageError("say PICTURES, or --features FILE")
    from genmem_bank.changing.adding import add_features, add_file
    from genmem_bank.storage.card import Added

    with _told():
        if features is not None:
            card = add_file(path, features)
        else:
            encoder = _encoder(path, data, plugins)
            added = Added(what=tuple(map(str, pictures)), hashes=_hashes(pictures))
            card = add_features(path, encoder.features(pictures), added)
    count = card.segments[-1].rows
    click.echo(f"{path}: rows {card.rows - count} to {card.rows - 1} are new; {card.rows:,} rows in all")


@click.command("interpolate", short_help="Points between two rows or pictures.")
@_BANK
@click.argument("first")
@click.argument("second")
@click.option("--steps", default=9, show_default=True, type=click.IntRange(1), help="Points between.")
@click.option("--spherical", is_flag=True, help="At equal angles.")
@click.option("--append", is_flag=True, help="Add the points to the bank.")
@_DATA
@plugin_option
def interpolate(
    path: Path,
    first: str,
    second: str,
    steps: int,
    spherical: bool,
    append: bool,
    data: str | None,
    plugins: tuple[Path, ...],
) -> None:
    """Points between FIRST and SECOND, each the number of a row of the bank in PATH, or a picture.

    \b
    Examples:
      genmem bank interpolate data/digits/bank 3 17
      genmem bank interpolate data/digits/bank 3 new.png --data data/digits --steps 5 --append
    """
    from genmem_bank.changing.adding import Editor
    from genmem_bank.changing.interpolating import interpolate as between
    from genmem_bank.changing.interpolating import shares
    from genmem_bank.looking.searching import search
    from genmem_bank.storage.card import Added

    with _told():
        editor, share_S = Editor(path), shares(steps)
        ends = [_end(editor, word, data, plugins) for word in (first, second)]
        points_SW = between(editor, ends[0], ends[1], share_S.tolist(), spherical)
        for share, (nearest,) in zip(share_S, search(path, points_SW, 1), strict=True):
            click.echo(f"{share:.3f} of {first}: nearest row {nearest.row} ({nearest.product:.4f})")
        if append:
            way = "spherical" if spherical else "linear"
            what = tuple(f"{share:.6g} of {first}, the rest {second}, {way}" for share in share_S)
            added = Added(what=what, hashes=("",) * steps)
            card = editor.append(iter([points_SW]), added)
            click.echo(f"{path}: rows {card.rows - steps} to {card.rows - 1} are new")


@click.command("search", short_help="The rows nearest to a picture or a row.")
@_BANK
@click.argument("query")
@click.option("--k", default=5, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Show them: a .png, of the set's pictures."
)
@_DATA
@plugin_option
def search(
    path: Path, query: str, k: int, out: Path | None, data: str | None, plugins: tuple[Path, ...]
) -> None:
    """The rows of the bank in PATH that are nearest to QUERY: the number of a row, or a picture.

    \b
    Examples:
      genmem bank search data/digits/bank 17 --k 5
      genmem bank search data/digits/bank new.png --data data/digits -o near.png
    """
    if out is not None and data is None:
        raise click.UsageError("-o shows pictures of a set: say --data FOLDER|RECIPE")
    from genmem_bank.changing.adding import Editor
    from genmem_bank.looking.searching import search as nearest

    with _told():
        (found,) = nearest(path, _end(Editor(path), query, data, plugins)[None], k)
        for one in found:
            origin = one.what or (f"sample {one.sample}" + (", mirrored" if one.view else ""))
            click.echo(
                f"row {one.row:>9}  {one.product:.4f}  {origin if one.sample >= 0 or one.what else ''}"
            )
        if out is not None and data is not None:
            from genmem_bank.changing.pictures import NamedSet
            from genmem_bank.looking.showing import show_found

            click.echo(f"{show_found(found, NamedSet.open(data, plugins), out)}")


CHANGES: tuple[click.Command, ...] = (add, interpolate, search)


def _end(editor: Editor, word: str, data: str | None, plugins: tuple[Path, ...]) -> np.ndarray:
    """The stored form (W,) of a row number or a picture."""
    if word.isdecimal():
        stored_1W = editor.take([int(word)])
    else:
        encoder = _encoder(editor.folder, data, plugins)
        stored_1W = editor.encode(encoder.features([Path(word)]), [word])
    return stored_1W.reshape(-1)


def _encoder(path: Path, data: str | None, plugins: tuple[Path, ...]) -> PictureEncoder:
    from genmem_bank.changing.pictures import NamedSet, open_encoder
    from genmem_bank.storage.card import read_card

    if data is None:
        raise click.UsageError(
            "a picture becomes a row by the encoder of the bank's set: say --data FOLDER|RECIPE"
        )
    return open_encoder(path, read_card(path), NamedSet.open(data, plugins))


def _hashes(pictures: tuple[Path, ...]) -> tuple[str, ...]:
    from genmem.data.files import hash_file

    return tuple(hash_file(picture) for picture in pictures)


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong, in one line."""
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise click.ClickException(str(error)) from error
