"""One process of two that train together; `test_repulsor_ranks.py` starts it.

    python ranks.py RANK WORLD FOLDER

Each rank feeds its contiguous piece of the same global batches to a queue and to the in-batch term,
and rank 0 writes what came out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from genmem.collectives import gather_with_gradient
from genmem.draws import Draws
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import repel_within

BATCH, MICRO, WIDTH, STEPS, CAPACITY = 8, 2, 4, 5, 21


def train(rank: int, world: int) -> dict[str, Tensor]:
    """A few steps of one rank; the queue's state and the gradient of the in-batch term."""
    torch.manual_seed(rank)
    queue = Queue(CAPACITY, WIDTH, "bf16")
    queue.rows_RE.normal_()  # every rank starts with other garbage
    local = BATCH // world
    for step in range(STEPS):
        ids = torch.arange(step * BATCH, (step + 1) * BATCH)[rank * local : (rank + 1) * local]
        for part in ids.split(MICRO):
            queue.stage(Draws(0, part).normal("row", (WIDTH,)), part)
        queue.commit(torch.tensor(step != 2))
        queue.commit(torch.tensor(True))  # nothing staged anywhere: an objective that is not active
    theta = torch.eye(WIDTH, dtype=torch.float64).requires_grad_()
    rows = Draws(0, torch.arange(rank * local, (rank + 1) * local)).normal("row", (WIDTH,)).double()
    repel_within(gather_with_gradient(rows @ theta)[None], 0.5).backward()
    assert theta.grad is not None
    if world > 1:
        dist.all_reduce(theta.grad)
    return queue.state() | {"gradient": theta.grad / world}


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(train(rank, world), folder / f"rank{rank}.pt")
    dist.destroy_process_group()
