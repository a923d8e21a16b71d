"""Benchmark `step`: where the time of a training step goes, and how near the machine's ceiling it is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from genmem.building import prepare_files, shapes_of
from genmem.devices import DTYPES, autocast, resolve
from genmem.draws import Draws
from genmem.profiling.step import measure_step
from genmem.recipe import load
from genmem.training.guard import Guard
from genmem.training.trainer import Trainer
from genmem_bench.comparison import compare
from genmem_bench.rounds import Timing
from genmem_bench.stall import stall
from genmem_bench.synthetic import without_data, write_set

SIDE = 1024
"""Of the square matrices whose product is the ceiling."""

SYNTHETIC = 256
"""Samples of a set of random numbers, at least."""


class Stopwatch:
    """Seconds by part."""

    def __init__(self, device: torch.device) -> None:
        """Waits for `device` before it reads the clock."""
        self.device = device
        self.seconds: dict[str, list[float]] = {}

    def time(self, part: str, work: Callable[[], Any]) -> Any:
        """Do the work and note how long it took."""
        self._settle()
        start = time.perf_counter()
        result = work()
        self._settle()
        self.seconds.setdefault(part, []).append(time.perf_counter() - start)
        return result

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def run(
    source: str, overrides: Sequence[str], plugins: Sequence[Path], rounds: int, synthetic: bool = False
) -> dict[str, Any]:
    """Steps of a recipe taken apart, then beside steps written by hand; each figure is the least of the
    rounds, after two that warm up."""
    recipe = load(source, overrides, plugins)
    with tempfile.TemporaryDirectory() as folder:
        if synthetic:
            recipe = without_data(recipe)
            dataset = write_set(Path(folder), recipe, max(SYNTHETIC, recipe.train.batch))
        else:
            dataset = prepare_files(recipe)
        trainer = Trainer(recipe, dataset, resolve(recipe.train.device), Guard(lambda line, images: None))
        if trainer.batching.accumulation > 1:
            raise ValueError("bench step times a whole batch at once; leave train.micro_batch out")
        parts = take_apart(trainer, rounds)
        return {
            "benchmark": "step",
            "recipe": recipe.name,
            "device": str(trainer.device),
            "precision": recipe.train.precision,
            "compile": recipe.train.compile,
            "batch": trainer.batching.batch,
            "rounds": rounds,
            **parts,
            **compare(trainer, rounds),
            **stall(trainer, Path(folder)),
        }


def take_apart(trainer: Trainer, rounds: int) -> dict[str, float]:
    """Seconds of each part of a step, and FLOP/s beside those of a matrix product."""
    watch = Stopwatch(trainer.device)
    for number in range(rounds + 2):
        if number == 2:
            watch.seconds.clear()
        take_step(trainer, watch)
        watch.time("ceiling", _product(trainer.device, trainer.recipe.train.precision))
    least = {part: Timing(tuple(seconds)).least for part, seconds in watch.seconds.items()}
    ceiling = 2 * SIDE**3 / least.pop("ceiling")
    whole = sum(least.values())
    batch = trainer.batching.batch
    flops = measure_step(trainer.recipe, shapes_of(trainer.dataset)).flops_per_image * batch
    return {
        **{f"{part}_s": seconds for part, seconds in least.items()},
        "images_per_s": batch / whole,
        "loader_share": least["loader"] / whole,
        "flops_per_s": flops / whole,
        "ceiling_flops_per_s": ceiling,
    }


def take_step(trainer: Trainer, watch: Stopwatch) -> None:
    """One optimizer step, part by part; the same work as `Trainer.step`."""
    recipe = trainer.recipe
    (batch,) = watch.time("loader", lambda: trainer.stream.batches(trainer.steps))
    draws = Draws(recipe.train.seed, batch.index_B, batch.round_B)

    def forward() -> Tensor:
        with autocast(trainer.device, recipe.train.precision):
            found = trainer.model(batch, draws, trainer.images_seen, trainer.averages.modules)
        return cast(Tensor, found.total)

    loss = watch.time("forward", forward)
    watch.time("backward", lambda: torch.autograd.backward(loss))
    ends_at = trainer.images_seen + trainer.batching.batch
    kept, _ = watch.time("optimizer", lambda: trainer.optimization.step(ends_at, loss.detach(), ()))
    trainer.steps += 1
    watch.time("ema", lambda: trainer.averages.update(trainer.steps, kept))

    def commit() -> None:
        for store in trainer.memories.values():
            store.commit(kept)

    watch.time("memory", commit)


def _product(device: torch.device, precision: str) -> Callable[[], Tensor]:
    square = torch.full((SIDE, SIDE), 0.5, device=device, dtype=DTYPES[precision])
    return lambda: square @ square
