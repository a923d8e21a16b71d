"""`group = "global"` over two processes equals one process: value, and gradient averaged over ranks.

    python test_dispersive_ranks.py RANK WORLD FOLDER

runs one of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import Tensor

from genmem.contracts import Facts, Prediction
from genmem_dispersive import DispersiveConfig

FACTS = Facts(sample_shape=(1, 8, 8), output_channels=1, batch=8, tap_widths={1: 5})


def disperse_rows(rank: int, world: int) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of a weight that every row passes, averaged over ranks."""
    rows = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.eye(5, dtype=torch.float64).requires_grad_()
    hidden = rows.chunk(world)[rank] @ weight
    objective = DispersiveConfig(tap=1, group="global").build(FACTS)
    result = objective(SimpleNamespace(prediction=Prediction(torch.empty(0), {1: hidden})))
    result.value.backward()
    assert weight.grad is not None
    if world > 1:
        dist.all_reduce(weight.grad)
    return result.value.detach(), weight.grad / world


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    commands = [[sys.executable, __file__, str(rank), "2", str(tmp_path)] for rank in (0, 1)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    messages = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], messages
    alone = disperse_rows(0, 1)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(disperse_rows(rank, world), folder / f"rank{rank}.pt")
    dist.destroy_process_group()
