"""How long a save holds the training thread."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from genmem.training.trainer import Trainer
from genmem.training.writer import Writer

SAVES = 3


def stall(trainer: Trainer, folder: Path) -> dict[str, float]:
    """Seconds that a save holds the training thread, and their share of a step: the least of a few saves.

    One save before them does not count: its copies get their memory.
    """
    held, steps = [], []
    with Writer(folder / "checkpoints", keep=1) as writer:
        for _ in range(SAVES + 1):
            trainer.guard.settle()
            _settle(trainer.device)
            start = time.perf_counter()
            writer.save(trainer.images_seen, trainer.checkpoint())
            held.append(time.perf_counter() - start)
            writer.settle()
            start = time.perf_counter()
            trainer.step()
            _settle(trainer.device)
            steps.append(time.perf_counter() - start)
    return {"save_s": min(held[1:]), "save_stall": min(held[1:]) / min(steps)}


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
