"""What the processes of `test_distributed.py` run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_parts import asking, pieces, tagged, unit
from running import STRESS, small_recipe, tensors_of, trainer_of
from safetensors.torch import save_file

from genmem import collectives
from genmem.attention import Chunk, log_sum_exp
from genmem.building import shapes_of
from genmem.contracts import Hide, Metric
from genmem.sampling.gallery import generate
from genmem.sampling.generator import generator_of
from genmem.scoring.evaluation import Evaluation
from genmem.training.launch import process_group
from genmem.training.session import speed_of

EXACT = ("--train.batch=64", "--memory.negatives.dtype=fp32")
MORE = """
[memory.more]
use = "sharded"
[objective.both]
use = "two-memories"
weight = 0.1
tap = 1
writes = "more"
reads = "bank"
"""


def train_and_save(data: Path, out: Path, *overrides: str) -> None:
    """Four steps, then the whole state and a few samples."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        recipe = small_recipe(data, *EXACT, *overrides, tables=MORE, plugins=[STRESS])
        trainer = trainer_of(recipe)
        for _ in range(4):
            trainer.step()
        state = tensors_of(trainer)
        backbone = trainer.averages.modules["ema"]
        generator = generator_of(
            recipe, backbone, trainer.assembly.conditioner, shapes_of(trainer.dataset), trainer.device
        )
        tokenizer = recipe.data.tokenizer.config.build()
        gallery = generate(generator, tokenizer, 11, seed=5, batch=3)
        if collectives.world_size() > 1:
            with pytest.raises(IndexError, match="this process made samples"):
                gallery.read(np.arange(11))
        state["pictures"] = torch.from_numpy(gallery.head(11))
        evaluation = Evaluation(recipe, trainer.dataset, trainer.device)
        state["held_out"] = torch.tensor(evaluation.held_out_loss(backbone, generator))
        state["rows"] = torch.from_numpy(gallery.row_N)
        save_file({k: v.contiguous() for k, v in state.items()}, out / f"{collectives.rank()}.safetensors")


def write_speed(data: Path, out: Path, *overrides: str) -> None:
    """What this process knows of its speed; objectives gather, but the first process counts alone."""
    with process_group(torch.device("cpu")):
        speed = speed_of(trainer_of(small_recipe(data, *EXACT, *overrides)))
        found = [speed.flops_per_image or 0.0, speed.ceiling]
        (out / f"{collectives.rank()}.json").write_text(json.dumps(found))


def gather_gradients(out: Path) -> None:
    """A loss over all pairs of all ranks' rows, with the exact gather and with a wrong one."""
    with process_group(torch.device("cpu")):
        rank, world = collectives.rank(), collectives.world_size()
        everything = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        own = everything[rank * 8 // world : (rank + 1) * 8 // world]
        results = {}
        for name, gather in (("exact", collectives.gather_with_gradient), ("wrong", _keep_own_slot_live)):
            rows = own.clone().requires_grad_()
            pairwise(gather(rows)).backward()
            # DDP averages gradients over ranks.
            results[name] = collectives.gather(rows.grad) / world
        save_file(results, out / f"{rank}.safetensors")


def pairwise(rows: torch.Tensor) -> torch.Tensor:
    """A loss that couples all rows."""
    return (rows @ rows.T).exp().mean().log()


SHARDS = {2: (0, 37, 50), 4: (0, 30, 30, 49, 50)}
"""Where each rank's rows end; with 4 ranks one has none."""


def attend_sharded(out: Path) -> None:
    """Every rank attends to rows of which it holds a part; value, gradient and count of its queries."""
    with process_group(torch.device("cpu")):
        rank, world = collectives.rank(), collectives.world_size()
        results: dict[str, torch.Tensor] = {}
        for name, (q, hide, metric) in sharded_problems().items():
            own = slice(rank * len(q) // world, (rank + 1) * len(q) // world)
            mine = q[own].clone().requires_grad_()
            rows = Chunk(*(field[slice(*SHARDS[world][rank : rank + 2])] for field in tagged(unit(50))))
            chunks = pieces(rows, 7)  # none at all on a rank that has no rows yet
            found = log_sum_exp(mine, chunks, 5.0, part_of(hide, own), metric, sharded=True)
            (gradient,) = torch.autograd.grad(found.lse_B.square().sum(), mine)
            parts = {"lse": found.lse_B.detach(), "count": found.count_B, "gradient": gradient}
            results |= {f"{name}/{key}": collectives.gather(part) for key, part in parts.items()}
        save_file(results, out / f"{rank}.safetensors")


def sharded_problems() -> dict[str, tuple[torch.Tensor, Hide, Metric]]:
    """Queries, what is hidden from them, and the metric."""
    q = unit(8, seed=1, dtype=torch.float64)
    all_hidden = Hide(t_B=torch.full((8,), 9.0), window=1.0)
    asked = Hide(*(torch.cat([part, part[:2]]) for part in asking()[:3]), window=0.5)
    return {
        "plain": (q, Hide(), "dot"),
        "far": (q + 100 * torch.arange(8)[:, None], Hide(), "dot"),
        "masked": (q, asked, "dot"),
        "distances": (q, asked, "l2"),
        "nothing": (q, all_hidden, "l2"),
    }


def part_of(hide: Hide, own: slice) -> Hide:
    """What is hidden from some of the queries."""
    return Hide(*(None if part is None else part[own] for part in hide[:3]), window=hide.window)


def _keep_own_slot_live(rows: torch.Tensor) -> torch.Tensor:
    gathered = collectives.gather(rows.detach()).clone()
    start = collectives.rank() * len(rows)
    return torch.cat([gathered[:start], rows, gathered[start + len(rows) :]])


def fail_on_rank_1() -> None:
    """Raise on one rank alone."""
    with process_group(torch.device("cpu")):
        if collectives.rank() == 1:
            raise ValueError("this rank is at fault")
        collectives.barrier()


def wait_for_others(out: Path) -> None:
    """Rank 0 prepares for longer than the group waits; then it waits in vain in a group of the hosts'."""
    with process_group(torch.device("cpu"), timeout=1.5):
        if collectives.rank() == 0:
            time.sleep(2.5)
        collectives.patient_barrier()
        group, end = collectives.host_group(0.5), out / "end"
        if collectives.rank() == 0:
            with pytest.raises(RuntimeError, match=r"[Tt]imed out"):
                torch.distributed.barrier(group)
            end.touch()
        while not end.exists():
            time.sleep(0.01)
