"""Mean and deviation of x, channel by channel, from one seeded pass over everything stored.

Shapes: B samples, C H W sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from genmem.contracts import LatentSpec
from genmem.data.format.fields import SAMPLE, member_of
from genmem.data.format.index import Index
from genmem.data.format.manifest import Form
from genmem.data.streaming.latents import Restoration
from genmem.draws import Draws

SEED = 0
"""Of the posterior draws, where moments are stored."""

_AT_ONCE = 256


class Moments(NamedTuple):
    """Number, mean and summed squared deviation of the values of each channel, in float64."""

    values: int
    """In each channel."""

    mean_C: np.ndarray
    squares_C: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> Moments:
        """Those of (B, C, H, W)."""
        x = x.astype(np.float64)
        mean_C = x.mean((0, 2, 3))
        squares_C = np.square(x - mean_C[:, None, None]).sum((0, 2, 3))
        return cls(x.size // x.shape[1], mean_C, squares_C)

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, exactly."""
        return {"count": self.values, "mean": self.mean_C.tolist(), "squares": self.squares_C.tolist()}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Moments:
        """Back from `to_json`."""
        return cls(int(found["count"]), np.array(found["mean"]), np.array(found["squares"]))


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """The moments of all values together (Chan, Golub and LeVeque's update)."""
    first, *rest = parts
    for part in rest:
        count = first.values + part.values
        gap_C = part.mean_C - first.mean_C
        first = Moments(
            count,
            first.mean_C + gap_C * (part.values / count),
            first.squares_C + part.squares_C + gap_C**2 * (first.values * part.values / count),
        )
    return first


def describe_moments(moments: Moments) -> dict[str, Any]:
    """For the manifest."""
    deviation_C = np.sqrt(moments.squares_C / moments.values)
    return {"mean": moments.mean_C.tolist(), "std": deviation_C.tolist(), "seed": SEED}


def measure_shard(path: Path, index: Index, spec: LatentSpec, first: int, views: int) -> Moments:
    """Moments of x over every sample and view of a tar, posteriors drawn with `SEED`.

    Args:
        path: The tar.
        index: Its index.
        spec: How x follows from what is stored.
        first: Number of its first sample, which keys the draws.
        views: Views stored.
    """
    data, restore = np.memmap(path, mode="r"), Restoration(spec)
    form = Form(spec.dtype, ((1 + spec.moments) * spec.shape[0], *spec.shape[1:]))
    parts = []
    for view in range(views):
        places = index.fields[member_of(SAMPLE, view)]
        starts = places.offset_N + len(places.header)
        for start in range(0, len(index), _AT_ONCE):
            stored = np.stack(
                [_values(data, offset, form) for offset in starts[start : start + _AT_ONCE].tolist()]
            )
            draws = Draws(SEED, torch.arange(first + start, first + start + len(stored)))
            parts.append(Moments.of(restore(torch.from_numpy(stored), draws).numpy()))
    return merge_moments(parts)


def _values(data: np.ndarray, offset: int, form: Form) -> np.ndarray:
    size = int(np.prod(form.shape)) * np.dtype(form.dtype).itemsize
    return np.frombuffer(data[offset : offset + size].tobytes(), form.dtype).reshape(form.shape)
