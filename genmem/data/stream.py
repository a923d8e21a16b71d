"""The training stream: the batches of a step, a pure function of the step's number.

Shapes: B samples, C H W sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Batch, LatentSpec, MemoryStore
from genmem.data.latents import Restoration
from genmem.data.order import Order, rank_slice
from genmem.data.shards import ShardSet
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
        window: Shards whose samples are permuted together; all if absent.
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
        self.micro_batch = _check_micro(len(rank_slice(0, batch, rank, world)), micro_batch)
        self._check_offer()
        self._restore = Restoration(spec, self.device)
        self.order = Order(shards.counts, seed=seed, window=window)
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, "read-ahead") if workers else None
        self._ahead: dict[int, Future[Rows]] = {}

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of this rank in optimizer step `step`, on the device."""
        rows = self._take(step)
        batch = self._finish(rows, Draws(self.seed, rows.index_B, rows.round_B))
        cuts = range(0, len(batch.x), self.micro_batch)
        return [slice_batch(batch, start, start + self.micro_batch) for start in cuts]

    def batch_of(self, numbers: Sequence[int] | np.ndarray, view: int = 0) -> Batch:
        """These samples in this view, as of epoch 0; a posterior is not drawn, its mean is taken."""
        number_B = np.asarray(numbers, np.int64)
        rows = self._read(number_B, np.full_like(number_B, view), np.zeros_like(number_B))
        return self._finish(rows, None)

    def close(self) -> None:
        """Forget what was read ahead and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

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

    def _take(self, step: int) -> Rows:
        if self._pool is None:
            return self._gather(step)
        # What was read ahead for another step (after a rollback, say) is of no use.
        wanted = range(step, step + self.workers + 1)
        self._ahead = {s: f for s, f in self._ahead.items() if s in wanted}
        for s in wanted:
            if s not in self._ahead:
                self._ahead[s] = self._pool.submit(self._gather, s)
        return self._ahead.pop(step).result()

    def _gather(self, step: int) -> Rows:
        epoch_B, number_B = self.order.locate(rank_slice(step, self.batch, self.rank, self.world))
        return self._read(number_B, self._toss(number_B, epoch_B), epoch_B)

    def _toss(self, number_B: np.ndarray, epoch_B: np.ndarray) -> np.ndarray:
        """One coin per sample and epoch: latent, features and memory rows follow it together."""
        if self.views == 1:
            return np.zeros_like(number_B)
        draws = Draws(self.seed, torch.from_numpy(number_B), torch.from_numpy(epoch_B))
        return draws.integers("view", 2).numpy()

    def _read(self, number_B: np.ndarray, view_B: np.ndarray, epoch_B: np.ndarray) -> Rows:
        fetched = {name: memory.fetch(number_B, view_B) for name, memory in self.memories.items()}
        return Rows(
            torch.from_numpy(self.shards.labels(number_B)),
            torch.from_numpy(number_B),
            torch.from_numpy(view_B),
            torch.from_numpy(epoch_B),
            torch.from_numpy(self.shards.read("x", number_B, view_B)),
            {name: torch.from_numpy(self.shards.read(name, number_B, view_B)) for name in self.features},
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
