"""The whole state of a run: taken from a trainer, given back to one, on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from genmem.building import shapes_of
from genmem.training import checkpoints
from genmem.training.checkpoints import Checkpoint, Place
from genmem.training.integrity import load_state

if TYPE_CHECKING:
    from genmem.training.trainer import Trainer


def capture(trainer: Trainer) -> Checkpoint:
    """The state as it is now: the tensors themselves, which the next step changes.

    Collective: a store that is spread over ranks is gathered.
    """
    tensors = {"model": trainer.assembly.state_dict(), "optimizer": trainer.optimization.state()}
    tensors |= {f"ema.{name}": module.state_dict() for name, module in trainer.averages.modules.items()}
    tensors |= {
        f"memory.{name}": state for name, store in trainer.memories.items() if (state := store.state())
    }
    return Checkpoint(
        tensors,
        {"steps": trainer.steps, "images": trainer.images_seen, "guard": trainer.guard.state()}
        | {"fingerprints": trainer.fingerprints(), "shapes": shapes_of(trainer.dataset).to_json()}
        | {"contents": trainer.dataset.contents()},
    )


def resume(trainer: Trainer, path: Path) -> None:
    """Go on from a checkpoint on the disk. Each process reads what it holds, in place.

    Raises:
        ValueError: It is damaged, was made with other data or another bank, or for another network.
    """
    refuse_others(trainer, load_state(path))
    restore(trainer, checkpoints.load(path, place_in(trainer)))


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Go on from a state; from imported weights, begin with them.

    Raises:
        ValueError: It was made with other data or another bank, or for another network.
    """
    refuse_others(trainer, checkpoint.state)
    tensors = checkpoint.tensors
    for name, module in trainer.averages.modules.items():
        module.load_state_dict(tensors[f"ema.{name}"])
    if "imported" in checkpoint.state:
        _begin_with(trainer, tensors["model"])
        return
    trainer.assembly.load_state_dict(tensors["model"])
    trainer.optimization.load_state(tensors["optimizer"])
    for name, store in trainer.memories.items():
        if f"memory.{name}" in tensors:
            store.load_state(tensors[f"memory.{name}"])
    trainer.steps = checkpoint.state["steps"]
    trainer.guard.load_state(checkpoint.state["guard"])
    trainer.stream.reseed(trainer.seed)


def place_in(trainer: Trainer) -> Place:
    """Where a trainer holds each tensor of a checkpoint."""
    live: dict[str, Callable[[str], Tensor | None]] = {
        "model": trainer.assembly.state_dict().get,
        "optimizer": trainer.optimization.place,
    }
    live |= {f"ema.{name}": module.state_dict().get for name, module in trainer.averages.modules.items()}
    return lambda group, name: live[group](name) if group in live else None


def _begin_with(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    """Take up a network's weights; optimizer, objectives and memories start as they are."""
    backbone = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    trainer.assembly.backbone.load_state_dict(backbone)


def refuse_others(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Compare data and frozen memories with those of a checkpoint.

    Raises:
        ValueError: One of them is another.
    """
    if "imported" in state:
        return
    before, now = state["fingerprints"], trainer.fingerprints()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"the checkpoint was made with another {name}: {before.get(name)} there, "
                f"{now.get(name)} here; "
                "bring that one back, or start anew in another folder with --out"
            )
