"""Memory rows that somebody names: by number, of pictures, between two of them.

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
from genmem.contracts import Batch, MemoryStore, OnDevice
from genmem.data.files import hash_file
from genmem.data.picture_files import read_pictures


@attrs.frozen(kw_only=True)
class Wanted:
    """Which rows. Exactly one of the three is given."""

    rows: tuple[int, ...] = ()
    pictures: tuple[Path, ...] = ()
    ends: tuple[str, str] | None = None
    """Row numbers or pictures, between which rows are wanted, the ends among them."""

    steps: int = 9
    """Rows strictly between: nine have the shares 0.9 … 0.1."""

    spherical: bool = False
    """Shares are of the angle."""


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
        IndexError: A number that is not a row.
        ValueError: A picture, and features that no encoder makes of pictures.
    """
    if wanted.ends is None:
        ends = [*map(str, wanted.rows), *map(str, wanted.pictures)]
        code = torch.cat([_code(run, store, word) for word in ends])
        return Snippets(store.decode(code), *_known(ends))
    code = torch.cat([_code(run, store, word) for word in wanted.ends])
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
    """A row's number, or a picture with its hash."""
    return word if word.isdecimal() else f"{word} {hash_file(Path(word))}"


def _known(ends: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...], tuple[Path | None, ...]]:
    rows = tuple(int(word) if word.isdecimal() else -1 for word in ends)
    return tuple(ends), rows, tuple(None if word.isdecimal() else Path(word) for word in ends)


def _code(run: Run, store: MemoryStore, word: str) -> Tensor:
    """(1, …): the stored form of a row by its number, or of a picture."""
    if word.isdecimal():
        return store.codes(torch.tensor([int(word)], device=run.device))
    return store.code(_batch_of(run, Path(word)))


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
