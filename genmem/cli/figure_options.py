"""What `genmem sample` takes to draw a figure of named memory rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

_PICTURE = click.Path(path_type=Path, exists=True, dir_okay=False)


def figure_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a click command the parameter `figure`: what is asked for, or None where nothing is."""

    @wraps(function)
    def folded(
        *, rows: str | None, memory: tuple[Path, ...], text: tuple[str, ...], interpolate: Any, **rest: Any
    ) -> None:
        how = {name: rest.pop(name) for name in ("noises", "steps", "spherical", "map")}
        asked = [rows is not None, bool(memory), bool(text), interpolate is not None]
        if asked.count(True) > 1:
            raise click.UsageError("say one of --rows, --memory, --text and --interpolate")
        if how["map"] is not None and not any(asked[1:]):
            raise click.UsageError("--map NAME goes with --memory, --text or --interpolate")
        figure = {"rows": _numbers(rows), "pictures": memory, "texts": text, "ends": interpolate, **how}
        function(figure=figure if any(asked) else None, **rest)

    for option in reversed(_OPTIONS):
        folded = option(folded)
    return folded


_OPTIONS = (
    click.option("--rows", metavar="N,N,...", help="Figure: these rows of the memory."),
    click.option(
        "--memory", multiple=True, type=_PICTURE, help="Figure: a picture as a row. May be repeated."
    ),
    click.option("--text", multiple=True, help="Figure: a text as a row, by a map. May be repeated."),
    click.option(
        "--map", help="The memory's map, by name: for --text where it has several, or for a --memory picture."
    ),
    click.option(
        "--interpolate", nargs=2, metavar="A B", help="Figure: between A and B: rows, pictures, text:WORDS."
    ),
    click.option(
        "--steps", default=9, show_default=True, type=click.IntRange(1), help="Rows between A and B."
    ),
    click.option("--spherical", is_flag=True, help="Between A and B at equal angles."),
    click.option(
        "--noises", default=4, show_default=True, type=click.IntRange(1), help="Samples of each row."
    ),
)


def _numbers(rows: str | None) -> tuple[int, ...]:
    words = [] if rows is None else [word.strip() for word in rows.split(",")]
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is no row's number; say --rows 3,17", param_hint="--rows")
    return tuple(int(word) for word in words)
