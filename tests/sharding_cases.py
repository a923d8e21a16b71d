"""What the processes of `test_sharding.py` run: the same steps copied (DDP) and split (FSDP)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from running import STRESS, small_recipe, trainer_of
from safetensors.torch import save_file
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch.distributed.tensor import DTensor

from genmem import collectives
from genmem.sampling.gallery import generate
from genmem.sampling.generator import generator_of
from genmem.training.launch import process_group
from genmem.training.sharding import gathered
from genmem.training.trainer import Trainer
from genmem.training.writer import Writer

# Widths of whole vectors: the optimizer's kernel rounds the rest of one differently.
TABLES = """
[memory.more]
use = "sharded"
width = 32
[objective.both]
use = "two-memories"
weight = 0.1
tap = 1
writes = "more"
reads = "bank"
[objective.teacher]
use = "teacher"
weight = 0.1
tap = 2
[ema.slow]
decay = 0.99
[condition]
drop = 0.1
"""
VIEW = """
[objective.view]
use = "second-view"
weight = 0.1
tap = 1
"""
FORMS = {"ddp": "false", "fsdp": "true"}
EXACT = ("--train.micro_batch=16", "--optimizer.clip=none")


def built(data: Path, form: str, *overrides: str) -> Trainer:
    """A trainer with everything on."""
    batch, tables = (96, TABLES + VIEW) if collectives.world_size() == 3 else (64, TABLES)
    words = (f"--train.batch={batch}", "--train.images=100000", f"--train.shard={FORMS[form]}", *overrides)
    return trainer_of(small_recipe(data, *words, tables=tables, plugins=[STRESS]))


def whole(trainer: Trainer) -> dict[str, Tensor]:
    """Every tensor of its state, put together. Collective."""
    return {
        f"{group}/{name}": (value.full_tensor() if isinstance(value, DTensor) else value).clone()
        for group, tensors in trainer.checkpoint().tensors.items()
        for name, value in tensors.items()
    }


def compare(data: Path, out: Path, port: int) -> None:
    """Three processes train both forms; then two of them alone, to the bit, and compiled."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        found = {}
        for form in FORMS:
            found |= losses_of(built(data, form, "--optimizer.clip=0.5"), 3, form)
        keep(found, out / "three")
    if os.environ["RANK"] == "2":
        return
    os.environ.update(WORLD_SIZE="2", MASTER_PORT=str(port))
    with process_group(torch.device("cpu")):
        # With a look inside, which goes backward through a block once more.
        words = (*EXACT, "--train.inspect_every=640")
        found = train_both(data, out / "two", 20, *words) | take_up_the_other(data, out / "two", *words)
        keep(found | train_compiled(data, "aot_eager"), out / "two")


def compile_in_earnest(data: Path, out: Path) -> None:
    """Two steps in both forms, as they are and compiled to machine code."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        found = {}
        for form in FORMS:
            found |= losses_of(built(data, form, *EXACT), 2, form)
        keep(found | train_compiled(data, "inductor"), out)


def keep(found: dict[str, Tensor], out: Path) -> None:
    """What the first process found, for the test to read."""
    if collectives.rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in found.items()}, out / "found.safetensors")


def losses_of(trainer: Trainer, steps: int, form: str) -> dict[str, Tensor]:
    """What so many steps log, and how often torch warned of a view."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        losses = [trainer.step() for _ in range(steps)]
    views = sum("view tensor" in str(warning.message) for warning in said)
    logged = {f"{form}/losses/{key}": torch.stack([step[key] for step in losses]) for key in losses[0]}
    return logged | {f"views/{form}": torch.tensor(views)}


def state_of(trainer: Trainer, form: str) -> dict[str, Tensor]:
    """Its whole state. Collective."""
    return {f"{form}/{name}": value for name, value in whole(trainer).items()}


def train_both(data: Path, out: Path, steps: int, *overrides: str) -> dict[str, Tensor]:
    """Steps in both forms: losses, states, pictures and a checkpoint; then one step more."""
    found = {}
    for form in FORMS:
        trainer = built(data, form, *overrides)
        found |= losses_of(trainer, steps, form)
        split = sum(isinstance(p, DTensor) for p in trainer.assembly.parameters())
        found |= {f"{form}/split": torch.tensor(split)} | state_of(trainer, form)
        with Writer(out / form, keep=1) as writer:
            writer.save(trainer.images_seen, trainer.checkpoint())
        found[f"{form}/pictures"] = torch.from_numpy(pictures(trainer))
        trainer.step()
        found |= state_of(trainer, f"{form}+1")
    return found


def take_up_the_other(data: Path, out: Path, *overrides: str) -> dict[str, Tensor]:
    """Each form takes up the checkpoint of the other, and takes a step."""
    found = {}
    for form, other in (("ddp", "fsdp"), ("fsdp", "ddp")):
        trainer = built(data, form, *overrides)
        (path,) = (out / other).iterdir()
        trainer.resume(path)
        trainer.step()
        found |= state_of(trainer, f"{form} from {other}")
    return found


class Counting:
    """A compiler's backend that counts what it compiles, and how often that is run."""

    def __init__(self, backend: str) -> None:
        self.compile = lookup_backend(backend)
        self.graphs = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        """The compiled form of a graph."""
        compiled = self.compile(graph, inputs)
        self.graphs += 1

        def run(*arguments: Any) -> Any:
            self.runs += 1
            return compiled(*arguments)

        return run


def train_compiled(data: Path, backend: str) -> dict[str, Tensor]:
    """Two steps in both forms, compiled."""
    found = {}
    for form in FORMS:
        counting = Counting(backend)
        torch.compiler.reset()
        torch.compiler.set_default_backend(counting)
        trainer = built(data, form, *EXACT, "--train.compile=true")
        found |= losses_of(trainer, 2, f"compiled {form}")
        found[f"compiled {form}/counts"] = torch.tensor([counting.graphs, counting.runs])
        found |= state_of(trainer, f"compiled {form}")
    torch.compiler.set_default_backend(None)
    return found


def pictures(trainer: Trainer):
    """Seven samples: ranks call the network a different number of times."""
    backbone = trainer.averages.modules["slow"]
    recipe, conditioner, device = trainer.recipe, trainer.assembly.conditioner, trainer.device
    with gathered(backbone):
        generator = generator_of(recipe, backbone, conditioner, shapes(trainer), device)
        tokenizer = recipe.data.tokenizer.config.build()
        return generate(generator, tokenizer, 7, seed=5, batch=3).head(7)


def shapes(trainer: Trainer):
    """What its network is built for."""
    from genmem.building import shapes_of

    return shapes_of(trainer.dataset)
