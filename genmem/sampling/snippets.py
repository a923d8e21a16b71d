"""Memory rows that somebody names: by number, of pictures, of text, between two of them.

Shapes: S snippets, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem.api import Run
from genmem.contracts import Batch, MemoryStore, OnDevice, Reads
from genmem.data.files import hash_file
from genmem.data.picture_files import read_pictures

TEXT = "text:"
"""Before a text, where rows and pictures may stand too."""


@attrs.frozen(kw_only=True)
class Wanted:
    """Which rows. Exactly one of the four is given."""

    rows: tuple[int, ...] = ()
    pictures: tuple[Path, ...] = ()
    texts: tuple[str, ...] = ()
    ends: tuple[str, str] | None = None
    """Row numbers, pictures or "text:…", between which rows are wanted, the ends among them."""

    steps: int = 9
    """Rows strictly between: nine have the shares 0.9 … 0.1."""

    spherical: bool = False
    """Shares are of the angle."""

    map: str | None = None
    """The store's map that makes rows of pictures or text; of text its only one if absent, of pictures
    the encoder of its rows."""


class Snippets(NamedTuple):
    """Memory rows, and what is known of them."""

    memory_SKE: Tensor
    name_S: tuple[str, ...]
    row_S: tuple[int, ...]
    """Their numbers, -1 for those that are not in the store."""

    picture_S: tuple[Path | None, ...]
    """The pictures they were made of."""


def find_snippets(run: Run, store: MemoryStore, wanted: Wanted) -> Snippets:
    """The rows.

    Raises:
        FileNotFoundError: No such picture.
        ValueError: A number that is not a row; a picture, and features that no encoder makes of
            pictures; no such map, or several and none named.
    """
    if wanted.ends is None:
        ends = [*map(str, wanted.rows), *map(str, wanted.pictures), *(f"{TEXT}{one}" for one in wanted.texts)]
        code = torch.cat([_code(run, store, word, wanted.map) for word in ends])
        return Snippets(store.decode(code), *_known(ends))
    code = torch.cat([_code(run, store, word, wanted.map) for word in wanted.ends])
    share_S = torch.arange(wanted.steps + 1, -1, -1, device=code.device) / (wanted.steps + 1)
    first, second = (end.expand(len(share_S), *end.shape) for end in code.unbind())
    memory_SKE = store.decode(store.mix(first, second, share_S, wanted.spherical))
    known = _known(wanted.ends)
    between = tuple(f"{share:.3g} of {wanted.ends[0]}" for share in share_S[1:-1].tolist())
    return Snippets(
        memory_SKE,
        (wanted.ends[0], *between, wanted.ends[1]),
        (known[1][0], *[-1] * wanted.steps, known[1][1]),
        (known[2][0], *[None] * wanted.steps, known[2][1]),
    )


def name_end(word: str) -> str:
    """A row's number, a text, or a picture with its hash."""
    return f"{word} {hash_file(Path(word))}" if _is_picture(word) else word


def _is_picture(word: str) -> bool:
    return not word.isdecimal() and not word.startswith(TEXT)


def _known(ends: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...], tuple[Path | None, ...]]:
    rows = tuple(int(word) if word.isdecimal() else -1 for word in ends)
    return tuple(ends), rows, tuple(Path(word) if _is_picture(word) else None for word in ends)


def _code(run: Run, store: MemoryStore, word: str, through: str | None) -> Tensor:
    """(1, …): the stored form of a row by its number, of a picture, or of a text."""
    if word.isdecimal():
        return _code_of_row(store, torch.tensor([int(word)], device=run.device))
    if word.startswith(TEXT):
        text_B = np.array([word.removeprefix(TEXT)])
        return store.translate(_choose_map(store, through, "text"), text_B)
    if through is not None and (store.maps().get(through) != "text"):
        pictures_BHWC = read_pictures([Path(word)], run.dataset.picture_shape)
        return store.translate(_choose_map(store, through, "pictures"), pictures_BHWC)
    return store.code(_batch_of(run, Path(word)))


def _code_of_row(store: MemoryStore, number_B: Tensor) -> Tensor:
    """The number was typed by somebody: what the store says of a wrong one is theirs to read."""
    try:
        return store.codes(number_B)
    except IndexError as error:
        raise ValueError(str(error)) from error


def _choose_map(store: MemoryStore, name: str | None, reads: Reads) -> str:
    """The map of this name; the store's only one of what it reads, where none is named.

    Raises:
        ValueError: There is no such map, or several and none is named.
    """
    able = [one for one, of in store.maps().items() if of == reads]
    found = able if name is None else [one for one in able if one == name]
    if len(found) != 1:
        asked = "" if name is None else f" {name!r}"
        way_out = "say --map NAME" if name is None and able else "`genmem bank map` makes one"
        there = ", ".join(able) or "none"
        raise ValueError(f"the memory has no single map{asked} of {reads}: there are: {there}; {way_out}")
    return found[0]


def _batch_of(run: Run, picture: Path) -> Batch:
    """A batch of one picture that is no sample, with the features its memory is made of."""
    assert run.recipe.condition.memory is not None
    seats, features = run.recipe.data.encoder, {}
    pictures_BHWC = read_pictures([picture], run.dataset.picture_shape)
    for name in run.recipe.memory[run.recipe.condition.memory].config.features:
        if name not in seats or seats[name].config.given:
            raise ValueError(
                f"{picture}: no encoder makes feature {name!r} of pictures ([data.encoder.{name}])"
            )
        encoder = run.dataset.encoder(name, seats[name].config)
        if isinstance(encoder, OnDevice):
            encoder.to(run.device)
        pooled_BD = np.asarray(encoder.encode(pictures_BHWC).pooled_BD, np.float32)
        features[name] = torch.from_numpy(pooled_BD).to(run.device)
    nobody_B = torch.full((1,), -1, device=run.device)
    x = torch.zeros(1, *run.shapes.sample_shape, device=run.device)
    return Batch(x, nobody_B, nobody_B, torch.zeros_like(nobody_B), torch.zeros_like(nobody_B), features, {})
