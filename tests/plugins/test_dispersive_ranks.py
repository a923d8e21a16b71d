"""Value and gradient are those of one process, whatever the number of ranks.

    python test_dispersive_ranks.py RANK WORLD FOLDER

runs one of them, over every form, twin and group.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

sys.path.append(str(Path(__file__).parent.parent))

from dispersive_parts import FACTS, FORMS, Toy, dispersive, toy_step

from genmem import collectives
from genmem.draws import Draws
from genmem_dispersive import DispersiveConfig
from genmem_dispersive import dispersive as module

BATCH = 16
CASES: dict[str, DispersiveConfig] = {
    f"{form} {positive} {group}": dispersive(
        form=form, positive=positive, group=group, tap=1, **({"margin": 40.0} if form == "hinge" else {})
    )
    for form in FORMS
    for positive in ("none", "independent", "restricted")
    for group in (4, "global")
}


def measure(config: DispersiveConfig, rank: int, world: int) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of the network's weights, both averaged over ranks."""
    network = Toy()
    step = toy_step(Draws(3, torch.arange(BATCH).chunk(world)[rank]), network)
    value = config.build(attrs.evolve(FACTS, batch=BATCH))(step).value
    value.backward()
    assert network.weight.grad is not None
    return collectives.mean(value), collectives.mean(network.weight.grad)


def gather_without_gradient(rows: Tensor) -> Tensor:
    """The wrong variant: only a rank's own rows are live."""
    start = collectives.rank() * len(rows)
    gathered = collectives.gather(rows.detach())
    return torch.cat([gathered[:start], rows, gathered[start + len(rows) :]])


def work(rank: int, world: int, folder: Path) -> None:
    """Everything of one rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    found = {name: measure(config, rank, world) for name, config in CASES.items()}
    module.gather_with_gradient = gather_without_gradient
    wrong = {name: measure(config, rank, world) for name, config in CASES.items() if "global" in name}
    torch.save((found, wrong), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What each of so many ranks found."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    commands = [[sys.executable, __file__, str(rank), str(world), str(folder)] for rank in range(world)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    messages = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert not any(worker.returncode for worker in workers), messages
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.parametrize("name", CASES)
def test_ranks_equal_one_process(ranks, name):
    alone = measure(CASES[name], 0, 1)
    for found, _ in ranks:
        torch.testing.assert_close(found[name], alone, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in CASES if "global" in name])
def test_a_gather_without_gradient_would_not(ranks, name):
    """Its value is right, and its gradient smaller by the number of ranks."""
    value, gradient = measure(CASES[name], 0, 1)
    for _, wrong in ranks:
        torch.testing.assert_close(wrong[name][0], value, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(wrong[name][1], gradient / len(ranks), rtol=1e-9, atol=1e-13)


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
