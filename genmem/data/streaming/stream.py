"""The training stream: the batches of a step, a pure function of the step's number.

Shapes: B samples, C H W sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Batch, LatentSpec, MemoryStore
from genmem.data.errors import DamagedSample, DamagedShard
from genmem.data.format.fields import SAMPLE
from genmem.data.streaming.damage import Damages
from genmem.data.streaming.latents import Restoration
from genmem.data.streaming.order import Order, rank_positions
from genmem.data.streaming.readahead import Prefetch, ReadAhead
from genmem.data.streaming.shards import ShardSet
from genmem.draws import Draws


class Rows(NamedTuple):
    """A batch as it is stored, on the host."""

    label_B: Tensor
    index_B: Tensor
    view_B: Tensor
    round_B: Tensor
    stored: Tensor
    features: dict[str, Tensor]
    fetched: dict[str, Tensor]


class Stream:
    """Batches of one rank. Equal for any number of workers, and from any step on.

    Args:
        shards: The split to read.
        spec: How x follows from what is stored.
        seed: Of the run: order, coins and posterior follow from it.
        batch: Global batch size.
        rank: This process.
        world: Number of processes.
        micro_batch: Samples in one `Batch`; the whole local batch if absent.
        views: 2: a coin for each sample and epoch decides between plain and mirrored; 1: plain
            only. As many as the set has if absent.
        features: Per-sample features to read; all if absent.
        memories: The conditioning memories, whose `fetch` is called for every batch.
        device: Where batches are put.
        workers: Threads that read ahead, one step each.
        window: Shards of a lane whose samples are permuted together; all if absent.
        lanes: Streams the shards are dealt to; with more than one, a rank serves whole lanes.
        skip: Damaged samples that may be replaced by others; without it, one ends the run.
    """

    def __init__(
        self,
        shards: ShardSet,
        spec: LatentSpec,
        *,
        seed: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
        micro_batch: int | None = None,
        views: int | None = None,
        features: Iterable[str] | None = None,
        memories: Mapping[str, MemoryStore] | None = None,
        device: torch.device | str = "cpu",
        workers: int = 0,
        window: int | None = None,
        lanes: int = 1,
        skip: int | None = None,
    ) -> None:
        """A stream over `shards`.

        Raises:
            ValueError: Sizes that do not divide, with those that would; more views than there are;
                a feature that the set does not have.
        """
        self.shards, self.spec, self.seed, self.batch = shards, spec, seed, batch
        self.rank, self.world, self.device = rank, world, torch.device(device)
        self.views = shards.views if views is None else views
        self.features = shards.features if features is None else tuple(features)
        self.memories = dict(memories or {})
        self.order = Order(shards.counts, seed=seed, window=window, lanes=lanes)
        self.micro_batch = _check_micro(len(self._positions(0)), micro_batch)
        self._check_offer()
        self._restore = Restoration(spec, self.device)
        self.damages = None if skip is None else Damages(shards, self._toss, seed=seed, most=skip)
        """What was found damaged, where it may be skipped."""
        self._workers = workers
        self._ahead = ReadAhead(self._gather, workers)
        self._prefetch: Prefetch | None = None

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of this rank in optimizer step `step`, on the device."""
        if not self.shards.storage.is_local:
            self._fetch_ahead(step)
        rows = self._ahead.take(step)
        batch = self._finish(rows, Draws(self.seed, rows.index_B, rows.round_B))
        cuts = range(0, len(batch.x), self.micro_batch)
        return [slice_batch(batch, start, start + self.micro_batch) for start in cuts]

    def batch_of(self, numbers: Sequence[int] | np.ndarray, view: int = 0) -> Batch:
        """These samples in this view, as of epoch 0; a posterior is not drawn, its mean is taken."""
        number_B = np.asarray(numbers, np.int64)
        rows = self._read(number_B, np.full_like(number_B, view), np.zeros_like(number_B))
        return self._finish(rows, None)

    def reseed(self, seed: int) -> None:
        """From now on another order, other coins and other posteriors."""
        if seed == self.seed:
            return
        self.close()
        self.seed = seed
        self.order = Order(self.shards.counts, seed=seed, window=self.order.window, lanes=self.order.lanes)
        self._ahead = ReadAhead(self._gather, self._workers)
        self._prefetch = None

    def close(self) -> None:
        """Forget what was read ahead and end the threads."""
        if self._prefetch is not None:
            self._prefetch.close()
        self._ahead.close()

    def _check_offer(self) -> None:
        if not 1 <= self.views <= self.shards.views:
            raise ValueError(
                f"{self.shards.folder}: {self.views} views asked for, the set has {self.shards.views}"
            )
        for name in self.features:
            if name not in self.shards.features:
                raise ValueError(
                    f"{self.shards.folder}: no feature {name!r}; there are {list(self.shards.features)}"
                )

    def _positions(self, step: int) -> np.ndarray:
        return rank_positions(step, self.batch, self.rank, self.world, self.order.lanes)

    def _fetch_ahead(self, step: int) -> None:
        """Fetch shards for as many steps as a lane needs to use up a window."""
        if self._prefetch is None:
            if (window := self.order.window) is None:
                raise ValueError(
                    f"{self.shards.folder}: data.window must be given for a set at a URL: without it the "
                    "samples of all shards are permuted together, and every batch needs all of them; try 8"
                )
            self.shards.storage.expect(window * max(1, self.order.lanes // self.world))
            samples = sum(sorted(self.shards.counts)[-window:])
            self._prefetch = Prefetch(self._fetch, 1 + samples * self.order.lanes // self.batch)
        self._prefetch.advance(step)

    def _fetch(self, step: int) -> None:
        self.shards.fetch(self.order.locate(self._positions(step))[1])

    def _gather(self, step: int) -> Rows:
        epoch_B, number_B = self.order.locate(self._positions(step))
        view_B = self._toss(number_B, epoch_B)
        if self.damages is None:
            return self._read(number_B, view_B, epoch_B)
        while True:
            numbers_views = self.damages.replace(number_B, epoch_B, view_B)
            try:
                return self._read(*numbers_views, epoch_B)
            except (DamagedSample, DamagedShard) as error:
                self.damages.note(error)

    def _toss(self, number_B: np.ndarray, epoch_B: np.ndarray) -> np.ndarray:
        """One coin per sample and epoch: latent, features and memory rows follow it together."""
        if self.views == 1:
            return np.zeros_like(number_B)
        draws = Draws(self.seed, torch.from_numpy(number_B), torch.from_numpy(epoch_B))
        return draws.integers("view", 2).numpy()

    def _read(self, number_B: np.ndarray, view_B: np.ndarray, epoch_B: np.ndarray) -> Rows:
        fetched = {name: memory.fetch(number_B, view_B) for name, memory in self.memories.items()}
        values = self.shards.read_fields((SAMPLE, *self.features), number_B, view_B)
        return Rows(
            torch.from_numpy(self.shards.labels(number_B)),
            torch.from_numpy(number_B),
            torch.from_numpy(view_B),
            torch.from_numpy(epoch_B),
            torch.from_numpy(values[SAMPLE]),
            {name: torch.from_numpy(values[name]) for name in self.features},
            {name: torch.from_numpy(rows) for name, rows in fetched.items() if rows is not None},
        )

    def _finish(self, rows: Rows, draws: Draws | None) -> Batch:
        if draws is not None:
            draws = Draws(draws.seed, self._put(draws.index_B), self._put(draws.round_B))
        return Batch(
            x=self._restore(self._put(rows.stored), draws),
            label_B=self._put(rows.label_B),
            index_B=self._put(rows.index_B),
            view_B=self._put(rows.view_B),
            round_B=self._put(rows.round_B),
            features={name: self._put(values).float() for name, values in rows.features.items()},
            fetched={name: self._put(values) for name, values in rows.fetched.items()},
        )

    def _put(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Rows start … stop - 1 of a batch."""
    rows = slice(start, stop)
    return Batch(
        x=batch.x[rows],
        label_B=batch.label_B[rows],
        index_B=batch.index_B[rows],
        view_B=batch.view_B[rows],
        round_B=batch.round_B[rows],
        features={name: values[rows] for name, values in batch.features.items()},
        fetched={name: values[rows] for name, values in batch.fetched.items()},
    )


def _check_micro(local: int, micro_batch: int | None) -> int:
    micro = local if micro_batch is None else micro_batch
    if not 0 < micro <= local or local % micro:
        fits = [size for size in range(1, local + 1) if local % size == 0]
        raise ValueError(
            f"a micro-batch of {micro} does not divide the {local} samples of one process; "
            f"these would: {', '.join(map(str, fits))}"
        )
    return micro
