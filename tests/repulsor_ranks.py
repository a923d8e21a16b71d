"""One process of several that train together; `plugins/test_repulsor_ranks.py` starts them.

Each rank feeds its contiguous piece of the same global batches, and writes what came out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.distributed as dist
from repulsor_parts import WIDTH, YES, build, config, part_of, step_with
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genmem.collectives import gather, gather_with_gradient
from genmem.contracts import Tags
from genmem.draws import Draws
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import Repulsor

BATCH, STEPS, ROWS, SAMPLES = 32, 3, 50, 40

CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "bank": ({"w_batch": 0.0, "head": "linear"}, (8, 2, 1)),
    "masks": ({"group": 2, "hide_class": True, "window": 0.5, "min_fill": 1}, (8, 2)),
    "l2": ({"group": 2, "metric": "l2", "reduction": "global", "head": "linear"}, (8, 2)),
    "global": ({"group": "global", "reduction": "global"}, (0,)),
}
"""{name: (settings, sizes of the micro-batch; 0: the whole of a rank's)}."""


def train(changes: dict[str, Any], micro: int, shard: bool, rank: int, world: int) -> dict[str, Tensor]:
    """Steps of one rank; values, the last step's gradient, the queue's state and what is nearest."""
    settings = config(**{"min_fill": 0} | changes)
    module = build(settings, BATCH, ROWS)
    torch.manual_seed(rank)
    queue = Queue(ROWS, WIDTH, "fp32", shard=shard, batch=BATCH)
    queue.ring["rows"].normal_()  # every rank starts with other garbage
    values = []
    local = BATCH // world
    for number in range(STEPS):
        module.zero_grad()
        values.append(torch.zeros(()))
        made = step(settings, queue, number)
        for start in range(rank * local, (rank + 1) * local, micro or local):
            part = part_of(made, start, start + (micro or local))
            value = module(part).value * (micro or local) / local
            value.backward()
            values[-1] += value.detach()
        queue.commit(torch.tensor(number != 1))
        if number == 0:
            queue.commit(YES)  # nothing staged anywhere: an objective that is not active
    gradient = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])  # type: ignore[union-attr]
    q = directions_of(module, settings, queue)[rank * local : (rank + 1) * local]
    near, slots = queue.nearest(q, ROWS)
    found = {"value": torch.stack(values), "gradient": gradient}
    if world > 1:
        for tensor in found.values():
            dist.all_reduce(tensor)
            tensor /= world
    return found | queue.state() | {"near": gather(near), "slots": gather(slots)}


def step(settings: Any, queue: Queue, number: int) -> Any:
    """The whole global batch of a step; samples come again after SAMPLES."""
    made = made_up(number)
    ids = (number * BATCH + torch.arange(BATCH)) % SAMPLES
    batch = made.batch._replace(index_B=ids)
    return attrs.evolve(made, batch=batch, memories={settings.memory: queue})


@cache
def made_up(number: int) -> Any:
    """Hidden states, labels and times."""
    return step_with(None, config(), BATCH, seed=number)


def directions_of(module: Repulsor, settings: Any, queue: Queue) -> Tensor:
    """Queries of the whole first batch."""
    return module.queries(step(settings, queue, 0).prediction.hidden[2]).detach()


def runs(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """All cases in all layouts."""
    return {
        f"{name}/{micro}/{shard}": train(changes, micro, shard, rank, world)
        for name, (changes, sizes) in CASES.items()
        for micro in sizes
        for shard in (False, True)
    }


def gathers(rank: int, world: int) -> dict[str, Tensor]:
    """The gradient of the in-batch term by the exact gather, and by one without gradient."""
    found = {}
    for name in ("exact", "wrong"):
        theta = torch.eye(WIDTH, dtype=torch.float64).requires_grad_()
        every = Draws(0, torch.arange(BATCH)).normal("row", (WIDTH,)).double()
        own = every.chunk(world)[rank] @ theta
        rows = gather_with_gradient(own) if name == "exact" else _keep_own_live(own, rank)
        logits = (rows @ rows.T).masked_fill(torch.eye(BATCH, dtype=torch.bool), -torch.inf)
        logits.logsumexp(1).mean().backward()
        assert theta.grad is not None
        if world > 1:
            dist.all_reduce(theta.grad)
        found[name] = theta.grad / world
    return found


def _keep_own_live(own: Tensor, rank: int) -> Tensor:
    rows = gather(own.detach()).clone()
    before, after = rows[: rank * len(own)], rows[(rank + 1) * len(own) :]
    return torch.cat([before, own, after])


def uneven(rank: int, world: int) -> dict[str, Tensor]:
    """Fewer rows on one rank than on another, none at all, and more than its share."""
    queue = Queue(40, WIDTH, "fp32", shard=True, batch=4 * world)
    counts = [4, 3, 2, 4] if world == 4 else [4, 1]
    start = 0
    for mine in (counts, counts[::-1], [0] * (world - 1) + [2]):
        before = start + sum(mine[:rank])
        ids = torch.arange(before, before + mine[rank])
        queue.stage(ids[:, None].expand(-1, WIDTH).float(), Tags(ids))
        queue.commit(YES)
        start += sum(mine)
    queue.stage(torch.zeros(6, WIDTH), Tags(torch.arange(6)))
    try:
        queue.commit(YES)
    except ValueError as error:
        return queue.state() | {
            "written": torch.tensor(start),
            "refused": torch.tensor("6 rows" in str(error)),
        }
    raise AssertionError("6 rows are not whole shares of 4")


def broadcasts(rank: int) -> dict[str, Tensor]:
    """Whether a forward under DDP leaves a rank's share alone, and what a buffer would become."""
    settings = config(group=2, min_fill=0)
    queue = Queue(ROWS, WIDTH, "fp32", shard=True)
    queue.ring["rows"].fill_(float(rank))
    holder = _Holder(build(settings))
    model = DistributedDataParallel(holder, broadcast_buffers=True)
    model(step(settings, queue, 0)).backward()
    own = sum(b.numel() for name, b in holder.named_buffers() if name != "wrong")
    share = queue.ring["rows"].clone()
    return {"share": share, "buffer": holder.wrong.clone(), "bytes": torch.tensor(own)}


class _Holder(nn.Module):
    wrong: Tensor

    def __init__(self, objective: Repulsor) -> None:
        super().__init__()
        self.objective = objective
        self.register_buffer("wrong", torch.full((3,), float(dist.get_rank())))

    def forward(self, made: Any) -> Tensor:
        value: Tensor = self.objective(made).value
        return value


def everything(rank: int, world: int) -> dict[str, Any]:
    """All of the above."""
    found = {"runs": runs(rank, world), "gathers": gathers(rank, world)}
    return found if world == 1 else found | {"uneven": uneven(rank, world), "broadcasts": broadcasts(rank)}


def run(rank: int, world: int, folder: Path) -> None:
    """All of the above into a file, as one of several."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(everything(rank, world), folder / f"rank{rank}.pt")
    dist.destroy_process_group()
