"""For tests: a small repulsor, steps for it, and queues that hold something."""

from __future__ import annotations

from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.contracts import Facts, Step
from genmem.draws import Draws
from genmem.testing import example_step
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import Repulsor

BATCH, WIDTH, DEPTH = 32, 8, 4


def config(**changes: Any) -> RepulsorConfig:
    """Small settings."""
    settings: dict[str, Any] = {"memory": "negatives", "tap": 2, "group": 8}
    return RepulsorConfig(**settings | changes)


def build(settings: RepulsorConfig, batch: int = BATCH) -> Repulsor:
    """The objective, its head the same every time."""
    torch.manual_seed(0)
    module = settings.build(
        Facts(
            sample_shape=(2, 4, 4),
            output_channels=2,
            batch=batch,
            memory_widths={"negatives": WIDTH},
            tap_widths=dict.fromkeys(range(1, DEPTH + 1), 16),
        )
    )
    assert isinstance(module, Repulsor)
    return module


def step_with(memory: Any, settings: RepulsorConfig, batch: int = BATCH, seed: int = 0) -> Step:
    """Made-up hidden states and this memory."""
    return attrs.evolve(
        example_step(settings, batch=batch, seed=seed), memories={"negatives": memory}, images_seen=0
    )


def part_of(step: Step, start: int, stop: int) -> Step:
    """One micro-batch of a step."""
    hidden = {tap: h.detach()[start:stop].requires_grad_() for tap, h in step.prediction.hidden.items()}
    batch = step.batch._replace(index_B=step.batch.index_B[start:stop])
    return attrs.evolve(step, batch=batch, prediction=step.prediction._replace(hidden=hidden))


def directions(count: int, seed: int = 5, width: int = WIDTH) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    return F.normalize(Draws(seed, torch.arange(count)).normal("row", (width,)), dim=1)


def filled(count: int = 300, first_id: int = 0) -> Queue:
    """A queue that holds this many rows, the first BATCH of them of the batch's own samples."""
    queue = Queue(512, WIDTH, "fp32")
    queue.rows_RE.fill_(torch.nan)
    queue.stage(directions(count), torch.arange(first_id, first_id + count))
    queue.commit(torch.tensor(True))
    return queue
