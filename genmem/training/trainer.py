"""A run in training: its parts, one optimizer step, its whole state.

Shapes: B batch, C H W sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from genmem import collectives
from genmem.building import Builder, shapes_of
from genmem.contracts import Batch, Commits
from genmem.data.dataset import Dataset
from genmem.data.streaming.stream import Stream
from genmem.devices import autocast
from genmem.draws import Draws, key_of
from genmem.recipe.tables import Recipe
from genmem.training.assembly import Losses
from genmem.training.averages import Averages
from genmem.training.batching import plan
from genmem.training.checkpoints import Checkpoint
from genmem.training.compilation import compile_blocks
from genmem.training.guard import Guard
from genmem.training.optimization import Optimization
from genmem.training.scaling import LossScale
from genmem.training.sharding import kept_whole, refuse_halves, replicate, shard
from genmem.training.state import capture, restore, resume


class Trainer:
    """Everything one process holds of a run."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device, guard: Guard) -> None:
        """Build the recipe for this data set.

        Raises:
            ValueError: Where batch, processes and objectives do not fit together.
        """
        self.recipe, self.dataset, self.device, self.guard = recipe, dataset, device, guard
        self.batching = plan(recipe, collectives.world_size())
        builder = Builder(recipe, shapes_of(dataset))
        self.memories = builder.memories(device)
        self.assembly = builder.assembly(self.memories, device)
        backbone = self.assembly.backbone
        self.averages = Averages(recipe.ema, backbone, lambda: builder.backbone(self.memories, device))
        if recipe.train.compile:
            compile_blocks(backbone)
        self.model = self._distributed()
        self.scale = LossScale(device) if recipe.train.precision == "fp16" else None
        self.optimization = Optimization(recipe.optimizer, self.assembly, recipe.train.images, self.scale)
        self.stream = Stream(
            dataset.shards("train"),
            dataset.spec,
            seed=recipe.train.seed,
            batch=self.batching.batch,
            rank=collectives.rank(),
            world=self.batching.world,
            micro_batch=self.batching.micro,
            features=sorted(wanted_features(recipe)),
            memories=conditioning(recipe, self.memories),
            device=device,
            views=recipe.data.views,
            workers=recipe.data.workers,
            window=recipe.data.window,
            lanes=recipe.data.lanes,
            skip=recipe.data.max_skipped if recipe.data.damage == "skip" else None,
        )
        self.steps = 0
        self.kept = torch.ones((), dtype=torch.bool, device=device)
        """Whether the last step was, on the device."""

    @property
    def images_seen(self) -> int:
        """Images that steps so far were computed from, skipped ones included."""
        return self.steps * self.batching.batch

    @property
    def finished(self) -> bool:
        """Whether all images of the recipe were seen."""
        return self.images_seen >= self.recipe.train.images

    @property
    def seed(self) -> int:
        """Of data and draws now: the recipe's, until the run rolls back."""
        return self.guard.data_seed(self.recipe.train.seed)

    def crosses(self, every: int, images: int) -> bool:
        """Whether the step that ends at so many images crosses a multiple of `every`, or is the last."""
        before = images - self.batching.batch
        return images // every > before // every or images >= self.recipe.train.images

    def step(self) -> dict[str, Tensor]:
        """One optimizer step. Returns scalars on the device: means over the micro-batches."""
        self._seed_step()
        micros = self.stream.batches(self.steps)
        results = [self._backward(batch, last=batch is micros[-1]) for batch in micros]
        ends_at = self.images_seen + self.batching.batch
        total = cast(Tensor, sum(result.total.detach() for result in results))
        active = self.assembly.active(self.images_seen)
        self.kept, norm = self.optimization.step(ends_at, total, self._idle(active))
        self.steps += 1
        self.averages.update(self.steps, self.kept)
        self._commit(active, self.kept)
        self.guard.watch(ends_at, self.kept, torch.cat([batch.index_B for batch in micros]))
        values = {key: sum(r.values[key] for r in results) / len(results) for key in results[0].values}
        return cast(dict[str, Tensor], values) | {"gradient_norm": norm}

    def _backward(self, batch: Batch, *, last: bool) -> Losses:
        """Forward and backward of one micro-batch; gradients are reduced on the last one."""
        draws = Draws(self.seed, batch.index_B, batch.round_B)
        seen, table = self.images_seen, self.recipe.train
        inspect = self.crosses(table.inspect_every, seen + self.batching.batch)
        with self._unsynchronised(last):
            forward = autocast(self.device, table.precision)
            with forward, kept_whole(self.model, last) if inspect else nullcontext():
                losses = cast(Losses, self.model(batch, draws, seen, self.averages.modules, inspect))
            # Outside: under autocast the backward of what was computed in fp32 would be cast as well.
            share = losses.total / self.batching.accumulation
            torch.autograd.backward(share if self.scale is None else self.scale(share))
        return losses

    def _distributed(self) -> nn.Module:
        table = self.recipe.train
        if collectives.world_size() == 1:
            return self.assembly
        if table.shard:
            refuse_halves(self.recipe)
            return shard(self.assembly, self.averages.modules.values(), self.device, table.precision)
        return replicate(self.assembly, self.device)

    def _unsynchronised(self, last: bool) -> AbstractContextManager[Any]:
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
        if last or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    def _commit(self, active: Mapping[str, float], kept: Tensor) -> None:
        for store in self.memories.values():
            store.commit(kept)
        for name in active:
            objective = self.assembly.objective[name]
            if isinstance(objective, Commits):
                objective.commit(kept)

    def _idle(self, active: Mapping[str, float]) -> list[nn.Parameter]:
        modules = self.assembly.objective.items()
        return [p for name, module in modules if name not in active for p in module.parameters()]

    def _seed_step(self) -> None:
        # Ours draw from Draws; a plugin that uses torch's generator is still the same after a resume.
        low, _ = key_of(self.seed, f"step/{self.steps}/{collectives.rank()}")
        torch.manual_seed(low)

    # state ---------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """The whole state, free of world size. Collective; the tensors are the run's own, not copies."""
        return capture(self)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a state; from imported weights, begin with them.

        Raises:
            ValueError: It was made with other data or another bank, or for another network.
        """
        restore(self, checkpoint)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint on the disk; every process reads what it holds.

        Raises:
            ValueError: As `restore`; or it is damaged.
        """
        resume(self, path)

    def fingerprints(self) -> dict[str, Any]:
        """What the run must find again: the data, and every frozen memory."""
        stores = {f"memory.{name}": store.fingerprint() for name, store in self.memories.items()}
        return {"data": self.dataset.fingerprint()} | {name: found for name, found in stores.items() if found}


def conditioning(recipe: Recipe, memories: dict[str, Any]) -> dict[str, Any]:
    """The memory that conditions the network, whose rows the stream fetches."""
    name = recipe.condition.memory
    return {name: memories[name]} if name else {}


def wanted_features(recipe: Recipe) -> frozenset[str]:
    """Per-sample features that a training step looks at; the stream reads no others."""
    asked = [table.objective.config.features for table in recipe.objective.values()]
    return frozenset().union(*asked)
