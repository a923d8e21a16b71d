"""Feature spaces to score in: an encoder with what the references look like in it, seen once.

Shapes: N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch

from genmem.contracts import Encoder, EncoderConfig, OnDevice
from genmem.data.settings import describe_settings
from genmem.data.states import hash_state
from genmem.recipe.tables import Seat
from genmem.scoring.measuring import POOLED, Measured, Wanted, look, measure
from genmem.scoring.moments import Moments
from genmem.scoring.sets.pictures import PictureSet, spread

_ROWS = 1 << 13
_MOMENTS = frozenset({POOLED})


@attrs.frozen(eq=False)
class Seen:
    """What an encoder saw in a set of pictures."""

    moments: Moments
    rows_ND: np.ndarray
    """float32, where they were asked for; on rank 0, empty elsewhere."""


@attrs.frozen(eq=False)
class Space:
    """One encoder and what the data set looks like in it."""

    encoder: Encoder
    train: Seen
    """With rows where nearest pictures are looked up here."""

    test: Seen

    def reference(self, half: np.ndarray | None) -> Moments:
        """Of the held-out pictures, or of some; those on rank 0."""
        return self.test.moments if half is None else _moments(self.test.rows_ND[half])

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """(N, D) features of uint8 pictures (N, H, W, C), on this process alone."""
        return look(self.encoder, pictures, (POOLED,))[POOLED]


def open_spaces(
    seats: Mapping[str, Seat[EncoderConfig]],
    train: PictureSet,
    test: PictureSet,
    lookup: str,
    device: torch.device,
) -> dict[str, Space]:
    """Build, fit on training pictures, and look at the references; every process sees its share.

    Each split is decoded once for all encoders. Rows of training pictures are kept in `lookup` alone.
    """
    encoders: dict[str, Encoder] = {}
    for name, seat in seats.items():
        encoders[name] = encoder = seat.config.build()
        if isinstance(encoder, OnDevice):
            encoder.to(device)
        if seat.config.learns:
            encoder.fit(spread(train))
    seen = see(encoders, train, lookup)
    held = see(encoders, test, *encoders)
    return {name: Space(encoder, seen[name], held[name]) for name, encoder in encoders.items()}


def see(encoders: Mapping[str, Encoder], pictures: PictureSet, *rows: str) -> dict[str, Seen]:
    """Show a set to all encoders at once, every process its share; rows are kept in those named. Collective.

    Raises:
        TypeError, ValueError: As `measure`.
    """
    if not encoders:
        return {}
    wanted = {
        name: (encoder, Wanted(_MOMENTS, _MOMENTS if name in rows else frozenset()))
        for name, encoder in encoders.items()
    }
    return {name: _seen(wanted[name][0], found) for name, found in measure(pictures, wanted).items()}


def _seen(encoder: Encoder, found: Measured) -> Seen:
    return Seen(found.moments[POOLED], found.rows.get(POOLED, np.empty((0, encoder.width), np.float32)))


def _moments(features_ND: np.ndarray) -> Moments:
    found = Moments.empty(features_ND.shape[1])
    for start in range(0, len(features_ND), _ROWS):
        found.update(features_ND[start : start + _ROWS])
    return found


def describe(seat: Seat[Any]) -> dict[str, Any]:
    """A component as data: its name and every setting that two equal ones share."""
    return {"use": seat.use, **describe_settings(seat.config)}


def describe_space(seat: Seat[EncoderConfig]) -> dict[str, Any]:
    """The same of an encoder, with the hash of weights that it came with."""
    if seat.config.learns:
        return describe(seat)
    return {**describe(seat), "weights": hash_state(seat.config.build().state())}
