"""What the processes of `test_forecast.py` run: a few steps, then the bytes they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from running import small_recipe, trainer_of
from torch import Tensor
from torch.distributed.tensor import DTensor

from genmem import collectives
from genmem.training.launch import process_group

SETTINGS = (
    "--backbone.width=24",
    "--backbone.heads=2",
    "--train.batch=96",
    "--memory.negatives.rows=101",
    "--memory.negatives.shard=true",
)
"""Two processes do not share the queue, or the positions of the tokens, without a rest."""

SLOW_EMA = "[ema.slow]\ndecay = 0.99\n"


def note_bytes(data: Path, out: Path, *overrides: str) -> None:
    """Write what this process holds between the backward and the optimizer's update, part by part."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        trainer = trainer_of(small_recipe(data, *SETTINGS, *overrides, tables=SLOW_EMA))
        trainer.step()
        gradients: list[Tensor] = []
        adamw = trainer.optimization.adamw
        adamw.register_step_pre_hook(
            lambda *_: gradients.extend(p.grad for p in trainer.assembly.parameters() if p.grad is not None)
        )
        trainer.step()
        averages = trainer.averages.modules.values()
        states = [value for state in adamw.state.values() for value in state.values()]
        found = {
            "weights": held(tensors_of(trainer.assembly)),
            "gradients": held(gradients),
            "optimizer": held(states),
            "ema": sum(held(tensors_of(module)) for module in averages),
            "memory.negatives": held(trainer.memories["negatives"].ring._columns.values()),
        }
        (out / f"{collectives.rank()}.json").write_text(json.dumps(found))


def tensors_of(module: torch.nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages, each once: what a shard is padded with is held too."""
    own = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in own}
    return sum(storages.values())
