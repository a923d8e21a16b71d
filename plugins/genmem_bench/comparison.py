"""The trainer's step beside steps written by hand, all in one process and in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from genmem.building import Builder, shapes_of
from genmem.training.compilation import compile_blocks
from genmem.training.trainer import Trainer
from genmem_bench.bare_loop import BareLoop, Weights
from genmem_bench.rounds import interleave, ratio

LYING_READY = 4
"""Batches that the loops by hand use in turn."""


def compare(trainer: Trainer, rounds: int) -> dict[str, Any]:
    """What the trainer costs over a bare loop, what it gains over the plain form, and each measure alone.

    The bare loop has all of the trainer's measures and nothing of what it watches. The plain form is
    the published training step of SiT: eager, AdamW and average parameter by parameter.
    """
    timings = interleave(_forms(trainer), rounds, _settler(trainer.device))
    genmem, bare, plain = timings["genmem"], timings["bare"], timings["plain"]
    alone = {
        f"{name}_alone_ratio": ratio(plain, timings[name]) if name in timings else None
        for name in ("fused_optimizer", "foreach_ema", "compile")
    }
    return {
        "trainer_s": genmem.least,
        "bare_s": bare.least,
        "plain_s": plain.least,
        "trainer_overhead": genmem.least / bare.least - 1,
        "reference_ratio": ratio(plain, genmem),
        **alone,
        "spread": max(timing.spread for timing in timings.values()),
    }


def _forms(trainer: Trainer) -> dict[str, Callable[[], object]]:
    recipe = trainer.recipe
    weights = Weights(Builder(recipe, shapes_of(trainer.dataset)), trainer.device)
    ready = [batch for step in range(LYING_READY) for batch in trainer.stream.batches(step)]
    eager = compiled = weights.assembly
    if recipe.train.compile:
        compiled = weights.twin()
        compile_blocks(compiled.backbone)

    def loop(compile: bool, fused: bool, foreach: bool) -> Callable[[], None]:
        model = compiled if compile else eager
        return BareLoop(weights, ready, model, fused=fused, foreach=foreach).step

    forms: dict[str, Callable[[], object]] = {
        "genmem": trainer.step,
        "bare": loop(True, True, True),
        "plain": loop(False, False, False),
        "fused_optimizer": loop(False, True, False),
        "foreach_ema": loop(False, False, True),
    }
    return forms | ({"compile": loop(True, False, False)} if recipe.train.compile else {})


def _settler(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
