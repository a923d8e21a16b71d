"""What a run would be on many processes: its steps, its memory, what it reads, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from genmem.building import Shapes
from genmem.profiling.blueprint import Blueprint
from genmem.profiling.held import count_held
from genmem.profiling.records import count_record_bytes
from genmem.profiling.step import count_activations, flops_per_image, measure
from genmem.recipe.tables import Recipe
from genmem.training.batching import Batching, plan

if TYPE_CHECKING:
    from rich.console import Group

RANKS = (8, 64, 512)
"""Processes that a forecast is made for."""

LARGEST = 4096
"""Images of one process up to which a batch that fits is looked for."""


@attrs.frozen(kw_only=True)
class Share:
    """One of so many processes."""

    batching: Batching
    ddp: Mapping[str, int]
    """{part: bytes} with everything on every process."""

    fsdp: Mapping[str, int]
    """{part: bytes} with parameters, gradients, moments and averages shared out."""

    note: str = ""
    """Why it was counted with another batch than the recipe's; empty where it was not."""


@attrs.frozen(kw_only=True)
class Forecast:
    """A run that has not been."""

    name: str
    images: int
    batch: int
    shares: tuple[Share, ...]
    flops_per_image: float | None
    """Of training; None where a component looks at values."""

    record_bytes: Mapping[str, int]
    """{what is read of a sample: bytes}; empty where it is not known."""

    images_per_s: float | None = None
    """Of all processes together, as given."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return -(-self.images // self.batch)

    def __rich__(self) -> Group:
        """The tables of `genmem.profiling.forecast_table`."""
        from genmem.profiling.forecast_table import show

        return show(self)


def forecast(
    recipe: Recipe, shapes: Shapes, ranks: Sequence[int] = RANKS, images_per_s: float | None = None
) -> Forecast:
    """Work it out with shapes alone: nothing of the model or its memories is allocated.

    Args:
        recipe: What would run.
        shapes: What its data hold.
        ranks: Numbers of processes.
        images_per_s: Of all processes together, for times and rates.

    Raises:
        ValueError: Objectives that fit no batch.
    """
    return Forecast(
        name=recipe.name,
        images=recipe.train.images,
        batch=recipe.train.batch,
        shares=tuple(_share(recipe, shapes, world) for world in ranks),
        flops_per_image=flops_per_image(recipe, shapes),
        record_bytes=count_record_bytes(recipe, shapes),
        images_per_s=images_per_s,
    )


def _share(recipe: Recipe, shapes: Shapes, world: int) -> Share:
    batching, note = _fitting(recipe, world)
    (ddp, fsdp), _ = measure(_count, recipe, shapes, world, batching)
    return Share(batching=batching, ddp=ddp, fsdp=fsdp, note=note)


def _count(blueprint: Blueprint) -> tuple[dict[str, int], dict[str, int]]:
    """Parts under DDP and under FSDP."""
    per_step = {"activations": count_activations(blueprint)}
    per_step |= {f"memory.{name}": s.extent.device_bytes for name, s in blueprint.memories.items()}
    ddp, fsdp = (count_held(blueprint, sharded=sharded) | per_step for sharded in (False, True))
    return ddp, fsdp


def _fitting(recipe: Recipe, world: int) -> tuple[Batching, str]:
    """The recipe's split; or that of the next larger batch that so many processes can share, and why."""
    try:
        return plan(recipe, world), ""
    except ValueError as error:
        why = str(error)
    for local in range(-(-recipe.train.batch // world), LARGEST):
        table = attrs.evolve(recipe.train, batch=world * local, micro_batch=None)
        try:
            found = plan(attrs.evolve(recipe, train=table), world)
        except ValueError:
            continue
        return found, f"{why}; counted with train.batch = {found.batch}"
    raise ValueError(why)
