"""What scores need to know of a set of pictures, streamed and added up over processes.

Shapes: N pictures, B of them at once, W width of an output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem import collectives
from genmem.contracts import Encoder, ManyOutputs
from genmem.scoring.features import read_features
from genmem.scoring.metrics.inception_score import SplitSums
from genmem.scoring.moments import Moments
from genmem.scoring.sets.pictures import PictureSet, PixelHash, iterate

POOLED = "pooled"
LOGITS = "logits"
_IN_MEMORY = 1 << 28
_AT_ONCE = 1 << 14

Tick = Callable[[int], None]
"""Called with the number of pictures that this process has seen."""


@attrs.frozen
class Wanted:
    """Of one encoder."""

    moments: frozenset[str] = frozenset()
    """Outputs whose mean and covariance are wanted."""

    rows: frozenset[str] = frozenset()
    """Outputs that are kept, row by row."""

    splits: int = 0
    """Splits of an Inception Score; 0: none."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Everything an encoder is asked for."""
        return tuple(sorted(self.moments | self.rows | ({LOGITS} if self.splits else set())))


@attrs.frozen(kw_only=True, eq=False)
class Measured:
    """What one encoder saw in a set."""

    count: int
    moments: Mapping[str, Moments]
    rows: Mapping[str, np.ndarray]
    """(N, W) float32, on rank 0; empty on the others."""

    splits: SplitSums | None
    sha256: str
    """Hash of the pictures, the same for any number of processes."""


def outputs_of(encoder: Encoder) -> Mapping[str, int]:
    """{name: width} of what an encoder gives."""
    return encoder.outputs if isinstance(encoder, ManyOutputs) else {POOLED: encoder.width}


def look(encoder: Encoder, pictures_BHWC: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """(B, W) of each output, and only if it is what the encoder promised.

    Raises:
        TypeError, ValueError: Another type, shape or count, or values that are not finite.
    """
    if isinstance(encoder, ManyOutputs):
        found = encoder.encode_outputs(pictures_BHWC, names)
    else:
        found = {POOLED: encoder.encode(pictures_BHWC).pooled_BD}
    for name in names:
        by = type(encoder).__name__
        rows = read_features(f"{name} of {by}", found[name], width=outputs_of(encoder)[name])
        if len(rows) != len(pictures_BHWC):
            raise ValueError(f"{name} of {by}: {len(rows)} rows for {len(pictures_BHWC)} pictures")
    return {name: found[name] for name in names}


def measure(
    pictures: PictureSet, wanted: Mapping[str, tuple[Encoder, Wanted]], tick: Tick = lambda seen: None
) -> dict[str, Measured]:
    """Every process reads its share once, shows it to every encoder, and all add up.

    Args:
        pictures: The set, the same on every process.
        wanted: {name: an encoder, fitted, and what is wanted of it}.
        tick: For a progress bar.

    Raises:
        TypeError, ValueError: Pictures that cannot be read; an encoder that breaks its promise.
    """
    start, stop = collectives.share(len(pictures))
    spaces = {name: _Space(*pair, start, stop, len(pictures)) for name, pair in wanted.items()}
    pixels = PixelHash()
    for first, found in iterate(pictures, start, stop):
        pixels.update(first, found)
        for space in spaces.values():
            space.update(first, found)
        tick(first + len(found) - start)
    pixels.words_8 = collectives.add(torch.from_numpy(pixels.words_8)).numpy()
    return {name: space.finish(pixels.hexdigest()) for name, space in spaces.items()}


def reserve(count: int, width: int) -> np.ndarray:
    """(count, width) float32; in a file that nobody sees where it is large."""
    if count * width * 4 <= _IN_MEMORY:
        return np.empty((count, width), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(count, width))


class _Space:
    """One encoder's part of the work on this process's share."""

    def __init__(self, encoder: Encoder, wanted: Wanted, start: int, stop: int, total: int) -> None:
        widths = outputs_of(encoder)
        self._encoder, self._wanted, self._start, self._total = encoder, wanted, start, total
        self._seen = 0
        self._moments = {name: Moments.empty(widths[name]) for name in sorted(wanted.moments)}
        self._rows = {name: reserve(stop - start, widths[name]) for name in sorted(wanted.rows)}
        classes = widths[LOGITS] if wanted.splits else 0
        self._splits = SplitSums.empty(total, classes, wanted.splits) if wanted.splits else None

    def update(self, first: int, pictures_BHWC: np.ndarray) -> None:
        found = look(self._encoder, pictures_BHWC, self._wanted.outputs)
        for name, moments in self._moments.items():
            moments.update(found[name], name=name)
        place = first - self._start
        for name, rows in self._rows.items():
            rows[place : place + len(pictures_BHWC)] = found[name]
        if self._splits is not None:
            self._splits.update(first, found[LOGITS])
        self._seen += len(pictures_BHWC)

    def finish(self, sha256: str) -> Measured:
        return Measured(
            count=self._total,
            moments={name: part.reduced(collectives.add) for name, part in self._moments.items()},
            rows={name: _gathered(rows, self._total) for name, rows in self._rows.items()},
            splits=None if self._splits is None else self._splits.reduced(collectives.add),
            sha256=sha256,
        )


def _gathered(own_nW: np.ndarray, total: int) -> np.ndarray:
    """All shares in order, on rank 0; a bounded piece of each travels at a time."""
    world, width = collectives.world_size(), own_nW.shape[1]
    if world == 1:
        return own_nW
    starts = [total * rank // world for rank in range(world + 1)]
    whole = reserve(total if collectives.rank() == 0 else 0, width)
    for first in range(0, -(-total // world), _AT_ONCE):
        piece = np.zeros((_AT_ONCE, width), np.float32)
        mine = own_nW[first : first + _AT_ONCE]
        piece[: len(mine)] = mine
        pieces: Tensor = collectives.gather(torch.from_numpy(piece)).view(world, _AT_ONCE, width)
        for rank in range(world if len(whole) else 0):
            place = starts[rank] + first
            stop = max(place, min(place + _AT_ONCE, starts[rank + 1]))
            whole[place:stop] = pieces[rank, : stop - place].numpy()
    return whole
