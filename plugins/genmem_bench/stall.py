"""How long a save holds the training thread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from genmem.training import checkpoints
from genmem.training.trainer import Trainer

SAVES = 3


def stall(trainer: Trainer, folder: Path, rounds: int) -> dict[str, Any]:
    """The share of a step that a save holds the training thread: the least of a few, each beside steps."""
    held, steps = [], []
    for _ in range(SAVES):
        start = time.perf_counter()
        checkpoints.save(folder / "checkpoints", trainer.images_seen, trainer.checkpoint(), keep=1)
        held.append(time.perf_counter() - start)
        start = time.perf_counter()
        trainer.step()
        trainer.guard.settle()
        steps.append(time.perf_counter() - start)
    return {"save_s": min(held), "save_stall": min(held) / min(steps)}
