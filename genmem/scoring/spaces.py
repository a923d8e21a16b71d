"""Feature spaces to score in: an encoder with what the references look like in it, seen once.

Shapes: N pictures, D width.
"""

from __future__ import annotations

import weakref
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
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.moments import Moments
from genmem.scoring.sets.pictures import ArrayPictures, PictureSet, iterate, spread

_ROWS = 1 << 13
_MOMENTS = frozenset({POOLED})


@attrs.define(eq=False)
class Space:
    """One encoder and what the data set looks like in it."""

    name: str
    encoder: Encoder
    train: Moments
    """Of the training pictures."""

    test: Moments
    train_ND: np.ndarray
    """float32, where nearest pictures are looked up here; on rank 0, empty elsewhere."""

    test_ND: np.ndarray
    """float32, on rank 0."""

    _asked: weakref.ref[np.ndarray] | None = attrs.field(default=None, init=False)
    _answer: np.ndarray = attrs.field(factory=lambda: np.empty((0, 0)), init=False)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """(N, D) features of uint8 pictures (N, H, W, C); of the same array twice in a row without work."""
        if self._asked is None or self._asked() is not pictures:
            found = [
                look(self.encoder, part, (POOLED,))[POOLED]
                for _, part in iterate(ArrayPictures(pictures), 0, len(pictures))
            ]
            self._asked, self._answer = weakref.ref(pictures), np.concatenate(found)
        return self._answer

    def distance(self, features_ND: np.ndarray | None, half: np.ndarray | None = None) -> float:
        """Fréchet distance to the held-out pictures, or to some; of the training pictures if None."""
        samples = self.train if features_ND is None else _moments(features_ND)
        return frechet(samples, self.test if half is None else _moments(self.test_ND[half]))


def open_spaces(
    seats: Mapping[str, Seat[EncoderConfig]],
    train: PictureSet,
    test: PictureSet,
    lookup: str | None,
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
    rows = {name: _MOMENTS if name == lookup else frozenset() for name in encoders}
    seen = _see(train, encoders, rows)
    held = _see(test, encoders, dict.fromkeys(encoders, _MOMENTS))
    return {
        name: Space(
            name,
            encoder,
            seen[name].moments[POOLED],
            held[name].moments[POOLED],
            seen[name].rows.get(POOLED, np.empty((0, encoder.width), np.float32)),
            held[name].rows[POOLED],
        )
        for name, encoder in encoders.items()
    }


def _see(
    pictures: PictureSet, encoders: Mapping[str, Encoder], rows: Mapping[str, frozenset[str]]
) -> dict[str, Measured]:
    return measure(
        pictures, {name: (encoder, Wanted(_MOMENTS, rows[name])) for name, encoder in encoders.items()}
    )


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
