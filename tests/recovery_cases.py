"""What the processes of `test_recovery.py` run: parts of one run, on one process or two."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import torch
from killing import STEPS, TINY, go, same_end, same_records
from running import STRESS, small_recipe, tensors_of
from safetensors.torch import save_file

from genmem import collectives
from genmem.recipe.tables import Recipe
from genmem.training.guard import Diverged
from genmem.training.integrity import numbered
from genmem.training.interruption import Interruption, watched
from genmem.training.launch import process_group
from genmem.training.trainer import Trainer

TABLES = """
[ema.slow]
decay = 0.9
[condition]
drop = 0.1
[objective.poison]
use = "poison"
weight = 1.0
"""
BATCH = 256
"""Twelve steps cross into the third epoch."""

LARGE = (
    f"--train.batch={BATCH}",
    "--train.micro_batch=64",
    f"--train.images={BATCH * STEPS}",
    f"--train.save_every={3 * BATCH}",
    f"--train.log_every={2 * BATCH}",
    "--memory.negatives.rows=600",
    "--memory.negatives.dtype=fp32",
)
GUARD = ("--guard.skips=2", "--guard.rollbacks=2", "--objective.poison.loss_alone=true")


def recipe_of(data: Path, *overrides: str) -> Recipe:
    """Objectives coupled in groups of 16, a queue, a bank, accumulation, two averages."""
    words = (*LARGE, *overrides)
    return small_recipe(data, *words, tables=TABLES, plugins=[STRESS], small=TINY)


class Numbers:
    """Notes the sample numbers of this process, step by step."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def __call__(self, trainer: Trainer) -> None:
        """Listen to what its steps are made of."""
        watch = trainer.guard.watch

        def note(images_seen: int, kept: torch.Tensor, index_B: torch.Tensor) -> None:
            self.steps.append(index_B.tolist())
            watch(images_seen, kept, index_B)

        trainer.guard.watch = note  # type: ignore[method-assign]


def run_two(data: Path, out: Path, nan: tuple[str, ...], nans: tuple[str, ...]) -> None:
    """Everything that two processes have to go through; `nan` and `nans` say which samples are sick."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu"), timeout=60):
        middle_part(data, out, nan)
        roll_back(data, out, nans)
        diverge(data, out)


def middle_part(data: Path, out: Path, nan: tuple[str, ...]) -> None:
    """Go on with a run of one process; SIGTERM comes to the second process alone, and comes twice."""
    rank, numbers = collectives.rank(), Numbers()

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with watched() as interruption:
        after = {3: terminate} if rank == 1 else {}
        go(recipe_of(data, *nan), out / "moved", after=after, made=numbers, interruption=interruption)
    (out / f"moved-{rank}.json").write_text(json.dumps(numbers.steps))


def roll_back(data: Path, out: Path, nans: tuple[str, ...]) -> None:
    """Two steps in a row are NaN on the second process alone. Once without a stop, and once stopped by
    a time limit that is over on one process only, by a signal to one, and gone on with."""
    rank, recipe = collectives.rank(), recipe_of(data, *GUARD, *nans)
    straight = go(recipe, out / "straight")
    save_file(tensors_of(straight), out / f"straight-{rank}.safetensors")
    limit = Interruption()
    over = {0: lambda: setattr(limit, "_deadline", time.monotonic())} if rank == 1 else {}
    go(recipe, out / "stopped", after=over, interruption=limit)
    assert [int(path.name) for path in numbered(out / "stopped" / "checkpoints")] == [0, 2 * BATCH]
    with watched() as interruption:
        interrupt = {6: lambda: os.kill(os.getpid(), signal.SIGINT)} if rank == 0 else {}
        go(recipe, out / "stopped", after=interrupt, interruption=interruption)
    same_end(straight, go(recipe, out / "stopped"))
    same_records(out / "straight", out / "stopped")


def diverge(data: Path, out: Path) -> None:
    """From the fourth step on, the second process has nothing but NaN."""
    rank, trainers = collectives.rank(), list[Trainer]()
    recipe = recipe_of(data, *GUARD, "--objective.poison.rank=1", f"--objective.poison.since={3 * BATCH}")
    try:
        go(recipe, out / "diverged", made=trainers.append)
    except Diverged as error:
        (out / f"diverged-{rank}.txt").write_text(str(error))
    save_file(tensors_of(trainers[0]), out / f"diverged-{rank}.safetensors")
