"""What the processes of `test_sharding.py` run: the same steps copied (DDP) and split (FSDP)."""

from __future__ import annotations

from pathlib import Path

import torch
from running import STRESS, small_recipe, trainer_of
from safetensors.torch import save_file
from torch import Tensor
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


def train_both(data: Path, out: Path, steps: int, *overrides: str) -> None:
    """Steps in both forms, their losses and states; a checkpoint of each, taken up by the other."""
    torch.set_num_threads(1)
    found = {}
    with process_group(torch.device("cpu")):
        for form in FORMS:
            trainer = built(data, form, *overrides)
            losses = [trainer.step() for _ in range(steps)]
            for key in losses[0]:
                found[f"{form}/losses/{key}"] = torch.stack([step[key] for step in losses])
            split = sum(isinstance(p, DTensor) for p in trainer.assembly.parameters())
            found[f"{form}/split"] = torch.tensor(split)
            found |= {f"{form}/{name}": value for name, value in whole(trainer).items()}
            with Writer(out / form, keep=1) as writer:
                writer.save(trainer.images_seen, trainer.checkpoint())
            found[f"{form}/pictures"] = torch.from_numpy(pictures(trainer))
            trainer.step()
            found |= {f"{form}+1/{name}": value for name, value in whole(trainer).items()}
        for form, other in (("ddp", "fsdp"), ("fsdp", "ddp")) if collectives.world_size() == 2 else ():
            trainer = built(data, form, *overrides)
            (path,) = (out / other).iterdir()
            trainer.resume(path)
            trainer.step()
            found |= {f"{form} from {other}/{name}": value for name, value in whole(trainer).items()}
        save_file({k: v.contiguous() for k, v in found.items()}, out / f"{collectives.rank()}.safetensors")


def pictures(trainer: Trainer):
    """Seven samples: ranks call the network a different number of times."""
    backbone = trainer.averages.modules["slow"]
    recipe, conditioner, device = trainer.recipe, trainer.assembly.conditioner, trainer.device
    with gathered(backbone):
        generator = generator_of(recipe, backbone, conditioner, shapes(trainer), device)
        tokenizer = recipe.data.tokenizer.config.build()
        return generate(generator, tokenizer, 7, seed=5, batch=3).pictures


def shapes(trainer: Trainer):
    """What its network is built for."""
    from genmem.building import shapes_of

    return shapes_of(trainer.dataset)
