"""Feature spaces to score in: an encoder with the references' moments, made once.

Shapes: N pictures, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from genmem.contracts import Encoder, EncoderConfig
from genmem.data.settings import describe_settings
from genmem.data.states import hash_state
from genmem.recipe.tables import Seat
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.moments import Moments

CHUNK = 1024


@attrs.frozen(eq=False)
class Space:
    """One encoder and what the data set looks like in it."""

    name: str
    encoder: Encoder
    train_ND: np.ndarray
    test_ND: np.ndarray

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """(N, D) features of uint8 pictures (N, H, W, C)."""
        pieces = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
        return np.concatenate([self.encoder.encode(piece).pooled_BD for piece in pieces])

    def distance(self, features_ND: np.ndarray, reference_ND: np.ndarray) -> float:
        """Fréchet distance between two sets of features."""
        return frechet(Moments.of(features_ND), Moments.of(reference_ND))


def open_spaces(
    seats: Mapping[str, Seat[EncoderConfig]], train: np.ndarray, test: np.ndarray
) -> dict[str, Space]:
    """Build, fit on the training pictures, and take the references' features."""
    spaces: dict[str, Space] = {}
    for name, seat in seats.items():
        encoder = seat.config.build()
        encoder.fit(train)
        bare = Space(name, encoder, np.empty((0, 0)), np.empty((0, 0)))
        spaces[name] = Space(name, encoder, bare.features(train), bare.features(test))
    return spaces


def describe(seat: Seat[Any]) -> dict[str, Any]:
    """A component as data: its name and every setting that two equal ones share."""
    return {"use": seat.use, **describe_settings(seat.config)}


def describe_space(seat: Seat[EncoderConfig]) -> dict[str, Any]:
    """The same of an encoder, with the hash of weights that it came with."""
    if seat.config.learns:
        return describe(seat)
    return {**describe(seat), "weights": hash_state(seat.config.build().state())}
