"""The order plan: which sample stands at a position is a pure function of (seed, epoch, position).

A position counts samples over the whole run, all ranks together: epoch e is positions
e·N … (e + 1)·N - 1, so epochs join without a gap, every step is full, and a checkpoint needs one
counter. Position p belongs to lane p mod L. In an epoch the shards are permuted and laid end to end,
and that row is cut among the lanes at the sample, each lane getting as many as it has positions; a
shard at one of the L - 1 cuts is read by two lanes. A lane takes its shards `window` at a time and
permutes the samples of a window together; by default one window holds them all.

A step is `batch` positions in a row, which is equally many of every lane. They stand lane by lane, so
a rank's contiguous piece of the global batch is whole lanes, and it reads the shards of no other.

Shapes: N samples of the set, S shards, L lanes, B positions asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def permute_epoch(
    seed: int, epoch: int, counts: Sequence[int], *, window: int | None = None, lanes: int = 1
) -> np.ndarray:
    """(N,) int64: the samples of an epoch in the order of positions.

    Args:
        seed: Of the run.
        epoch: From 0.
        counts: Samples in each shard.
        window: Shards of a lane whose samples are permuted together; all if absent.
        lanes: Streams the shards are dealt to.

    Raises:
        ValueError: A window or a number of lanes below 1.
    """
    for name, value in (("lanes", lanes), ("window", window)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    mixed_N = _shuffle(seed, f"{epoch}", sum(counts))
    if not len(mixed_N) or (lanes == 1 and (window is None or window >= len(counts))):
        return mixed_N
    # Where an epoch does not begin with lane 0, the lanes' pieces of the row are other ones; no matter.
    lane_N = np.arange(len(mixed_N)) % lanes
    shard_S = _shuffle(seed, f"{epoch}/shards", len(counts))
    group_N = _deal(shard_S, counts, np.bincount(lane_N, minlength=lanes), window or len(counts))
    order_N = np.empty_like(mixed_N)
    order_N[np.argsort(lane_N, kind="stable")] = mixed_N[np.argsort(group_N[mixed_N], kind="stable")]
    return order_N


def _deal(shard_S: np.ndarray, counts: Sequence[int], share_L: np.ndarray, window: int) -> np.ndarray:
    """(N,): of every sample, a number for its lane and window, ascending in the order they are read."""
    count_S = np.asarray(counts, np.int64)
    place_S = np.argsort(shard_S)
    row_N = np.argsort(np.repeat(place_S, count_S), kind="stable")
    # Along the row: the lane, and how many shards on from the lane's first one.
    lane_N = np.repeat(np.arange(len(share_L)), share_L)
    place_N = np.repeat(np.arange(len(shard_S)), count_S[shard_S])
    first_N = np.repeat(place_N[np.minimum(np.cumsum(share_L) - share_L, len(row_N) - 1)], share_L)
    group_N = np.empty_like(row_N)
    group_N[row_N] = lane_N * len(shard_S) + (place_N - first_N) // window
    return group_N


def _shuffle(seed: int, purpose: str, count: int) -> np.ndarray:
    key = hashlib.blake2b(f"{seed}/order/{purpose}".encode(), digest_size=16).digest()
    # NumPy may change how it permutes, but not the words of a bit generator. Sorting 64-bit words
    # is a permutation with a bias below N² / 2^64.
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def rank_positions(step: int, batch: int, rank: int, world: int, lanes: int = 1) -> np.ndarray:
    """(B,) int64: the positions that a rank reads in a step, its contiguous piece of the global batch.

    Raises:
        ValueError: A batch that ranks or lanes cannot share equally, or lanes that the ranks cannot;
            those that would do are named.
    """
    _check_shares(batch, world, lanes)
    local, depth = batch // world, batch // lanes
    place_B = np.arange(rank * local, (rank + 1) * local)
    return step * batch + place_B % depth * lanes + place_B // depth


def _check_shares(batch: int, world: int, lanes: int) -> None:
    for name, count in (("processes", world), ("lanes", lanes)):
        if batch % count:
            near = [b for b in (batch - batch % count, batch + count - batch % count) if b]
            raise ValueError(
                f"a batch of {batch} cannot be shared by {count} {name}; take {' or '.join(map(str, near))}"
            )
    if lanes > 1 and lanes % world:
        fits = [str(size) for size in range(1, lanes + 1) if lanes % size == 0]
        raise ValueError(
            f"{lanes} lanes cannot be shared by {world} processes; they can by {', '.join(fits)} (data.lanes)"
        )


class Order:
    """The order plan of one set; remembers the permutations of two epochs, and nothing else."""

    def __init__(
        self, counts: Sequence[int], *, seed: int, window: int | None = None, lanes: int = 1
    ) -> None:
        """The plan for shards of `counts` samples; see `permute_epoch`."""
        self.counts, self.seed, self.window, self.lanes = tuple(counts), seed, window, lanes
        self._epochs: dict[int, np.ndarray] = {}

    def locate(self, position_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epochs (B,) and sample numbers (B,) int64 at these positions.

        Raises:
            ValueError: A set without samples.
        """
        if sum(self.counts) == 0:
            raise ValueError("a set without samples has no order")
        epoch_B, place_B = np.divmod(position_B, sum(self.counts))
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
