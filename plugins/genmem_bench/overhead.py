"""Benchmark `overhead`: training steps of several recipes in turn, against those of the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from genmem.building import prepare_files
from genmem.devices import resolve
from genmem.recipe import load
from genmem.training.guard import Guard
from genmem.training.trainer import Trainer
from genmem_bench.rounds import interleave, ratio

WARM_UP = 20
"""Steps before any that count: memories fill, allocations settle."""


def run(
    sources: Sequence[str], overrides: Sequence[str], plugins: Sequence[Path], rounds: int, steps: int
) -> dict[str, Any]:
    """Seconds a step of every recipe, and how many times the first one's it takes.

    Whole optimizer steps, with everything a run does in them: reading, objectives, EMA, memories,
    and a look inside where one is due.
    """
    trainers = {source: _trainer(source, overrides, plugins) for source in sources}
    for trainer in trainers.values():
        _take(trainer, WARM_UP)()
    forms = {source: _take(trainer, steps) for source, trainer in trainers.items()}
    device = next(iter(trainers.values())).device
    timings = interleave(forms, rounds, _settler(device))
    first = timings[sources[0]]
    return {
        "benchmark": "overhead",
        "device": str(device),
        "rounds": rounds,
        "steps": steps,
        "recipes": [
            {
                "recipe": trainers[source].recipe.name,
                "seconds": timing.least / steps,
                "spread": timing.spread,
                "ratio": ratio(timing, first),
                "images_per_s": trainers[source].batching.batch * steps / timing.least,
            }
            for source, timing in timings.items()
        ],
    }


def _trainer(source: str, overrides: Sequence[str], plugins: Sequence[Path]) -> Trainer:
    recipe = load(source, overrides, plugins)
    return Trainer(
        recipe, prepare_files(recipe), resolve(recipe.train.device), Guard(lambda line, images: None)
    )


def _take(trainer: Trainer, steps: int) -> Callable[[], None]:
    def take() -> None:
        for _ in range(steps):
            trainer.step()

    return take


def _settler(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
