"""The order plan: which sample stands at a position is a pure function of (seed, epoch, position).

A position counts samples over the whole run, all ranks together: epoch e is positions
e·N … (e + 1)·N - 1, so epochs join without a gap, every step is full, and a checkpoint needs one
counter. Within an epoch shards are permuted and taken `window` at a time; the samples of a window
are permuted together. By default one window holds the whole set.

Lanes (for remote shards: the permuted shards are dealt to lanes, a global batch takes equally from
each, a rank serves whole lanes) have their place in the signatures; only one lane is served so far.

Shapes: N samples of the set, B positions asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def permute_epoch(
    seed: int, epoch: int, counts: Sequence[int], *, window: int | None = None, lanes: int = 1
) -> np.ndarray:
    """(N,) int64: the samples of an epoch in their order.

    Args:
        seed: Of the run.
        epoch: From 0.
        counts: Samples in each shard.
        window: Shards whose samples are permuted together; all if absent.
        lanes: Streams the shards are dealt to; 1.

    Raises:
        ValueError: A window below 1, or another number of lanes.
    """
    if lanes != 1:
        raise ValueError(f"lanes must be 1 for a local set, got {lanes}")
    if window is not None and window < 1:
        raise ValueError(f"window must be 1 shard or more, got {window}")
    if window is None or window >= len(counts):
        return _shuffle(seed, f"{epoch}", sum(counts))
    place_of_shard = np.argsort(_shuffle(seed, f"{epoch}/shards", len(counts)))
    window_N = np.repeat(place_of_shard // window, counts)
    mixed_N = _shuffle(seed, f"{epoch}", sum(counts))
    return mixed_N[np.argsort(window_N[mixed_N], kind="stable")]


def _shuffle(seed: int, purpose: str, count: int) -> np.ndarray:
    key = hashlib.blake2b(f"{seed}/order/{purpose}".encode(), digest_size=16).digest()
    # NumPy may change how it permutes, but not the words of a bit generator. Sorting 64-bit words
    # is a permutation with a bias below N² / 2^64.
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def rank_slice(step: int, batch: int, rank: int, world: int) -> range:
    """The positions that a rank reads in a step: its contiguous share of the global batch.

    Raises:
        ValueError: A batch that the ranks cannot share equally; the nearest that they can are named.
    """
    if batch % world:
        near = [b for b in (batch - batch % world, batch + world - batch % world) if b]
        raise ValueError(
            f"a batch of {batch} cannot be shared by {world} processes; take {' or '.join(map(str, near))}"
        )
    local = batch // world
    start = step * batch + rank * local
    return range(start, start + local)


class Order:
    """The order plan of one set; remembers the permutations of two epochs, and nothing else."""

    def __init__(
        self, counts: Sequence[int], *, seed: int, window: int | None = None, lanes: int = 1
    ) -> None:
        """The plan for shards of `counts` samples; see `permute_epoch`."""
        self.counts, self.seed, self.window, self.lanes = tuple(counts), seed, window, lanes
        self._epochs: dict[int, np.ndarray] = {}

    def locate(self, positions: range) -> tuple[np.ndarray, np.ndarray]:
        """Epochs (B,) and sample numbers (B,) int64 at these positions.

        Raises:
            ValueError: A set without samples.
        """
        if sum(self.counts) == 0:
            raise ValueError("a set without samples has no order")
        place_B = np.arange(positions.start, positions.stop, dtype=np.int64)
        epoch_B, place_B = np.divmod(place_B, sum(self.counts))
        number_B = np.empty_like(place_B)
        for epoch in np.unique(epoch_B).tolist():
            rows = epoch_B == epoch
            number_B[rows] = self._permutation(epoch)[place_B[rows]]
        return epoch_B, number_B

    def _permutation(self, epoch: int) -> np.ndarray:
        kept = dict(self._epochs)
        if epoch not in kept:
            kept[epoch] = permute_epoch(self.seed, epoch, self.counts, window=self.window, lanes=self.lanes)
            # A new dictionary, so that a reading thread never sees one that changes.
            self._epochs = {e: kept[e] for e in sorted(kept)[-2:]}
        return kept[epoch]
