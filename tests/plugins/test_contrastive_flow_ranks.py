"""Contrastive flow matching on 1, 2, 4 processes and in micro-batches: the same value and gradient.

    python test_contrastive_flow_ranks.py RANK WORLD FOLDER

runs one process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from genmem.contracts import Conditioning, Facts, Prediction
from genmem.draws import Draws
from genmem_velocity import ContrastiveFlowConfig

BATCH = 16
FACTS = Facts(sample_shape=(3, 2, 2), output_channels=3, batch=BATCH)
CASES = {
    "group": {"group": 4, "skip_dropped": True},
    "global": {"group": "global", "skip_dropped": True, "other_class": True},
}


def contrast_rows(case: str, micro: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
    """Value, and gradient of a weight that every row passes, as one optimizer step would have them."""
    draws = Draws(3, torch.arange(BATCH))
    x, u = (draws.normal(name, (3, 2, 2)).double() for name in ("x", "u"))
    label_B, drop_B = draws.integers("label", 4), draws.uniform("drop") < 0.4
    weight = torch.eye(3, dtype=torch.float64).requires_grad_()
    objective = ContrastiveFlowConfig(**CASES[case]).build(FACTS)
    total = torch.zeros((), dtype=torch.float64)
    local = torch.arange(BATCH).chunk(world)[rank]
    for rows in local.split(micro):
        step = SimpleNamespace(
            prediction=Prediction(torch.einsum("dc,bchw->bdhw", weight, x[rows]), {}),
            target=u[rows],
            batch=SimpleNamespace(label_B=label_B[rows]),
            cond=Conditioning(drop_B=drop_B[rows]),
            draws=Draws(3, rows),
        )
        value = objective(step).value * len(rows) / len(local)
        value.backward()
        total = total + value.detach()
    assert weight.grad is not None
    gradient = weight.grad
    if world > 1:
        dist.all_reduce(gradient)
        dist.all_reduce(total)
    return total / world, gradient / world


def splits(world: int) -> list[tuple[str, int]]:
    """Cases with their micro-batches: groups whole, and the whole local batch for "global"."""
    local = BATCH // world
    return [("group", micro) for micro in (4, 8, 16) if micro <= local] + [("global", local)]


@pytest.mark.parametrize("micro", [4, 8])
def test_accumulation_changes_nothing(micro):
    whole = contrast_rows("group", BATCH, 0, 1)
    torch.testing.assert_close(contrast_rows("group", micro, 0, 1), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_equal_one(tmp_path: Path, world: int) -> None:
    commands = [[sys.executable, __file__, str(rank), str(world), str(tmp_path)] for rank in range(world)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    messages = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * world, messages
    for rank in range(world):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert len(together) == len(splits(world))
        for (case, _), found in zip(splits(world), together, strict=True):
            torch.testing.assert_close(found, contrast_rows(case, BATCH, 0, 1), rtol=1e-12, atol=1e-14)


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(
        [contrast_rows(case, micro, rank, world) for case, micro in splits(world)], folder / f"rank{rank}.pt"
    )
    dist.destroy_process_group()
