"""What one training step costs: FLOPs of forward and backward, and the bytes kept between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import attrs
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genmem import collectives
from genmem.building import Shapes
from genmem.contracts import Batch
from genmem.devices import autocast
from genmem.profiling.activations import count_saved_bytes
from genmem.profiling.blueprint import Blueprint, drawn
from genmem.recipe.tables import Recipe
from genmem.training.assembly import Losses
from genmem.training.batching import Batching

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class StepCost:
    """One forward and backward of everything that trains, teachers and further forwards included."""

    batch: int
    """Images in the micro-batch that was measured."""

    flops: int
    """Of that micro-batch. 2 a multiply-add; what is recomputed counts, elementwise work does not."""

    activation_bytes: int
    """What the forward keeps for the backward."""

    real: str = ""
    """Why zeros had to be computed with, in the smallest micro-batch; empty where shapes were enough."""

    @property
    def flops_per_image(self) -> float:
        """FLOPs of training on one image."""
        return self.flops / self.batch


def measure_step(recipe: Recipe, shapes: Shapes, world: int = 1) -> StepCost:
    """Cost of a micro-batch on one of `world` processes, when the most objectives act.

    Raises:
        ValueError: Batch, processes and objectives that do not fit together.
    """
    cost, why = measure(_count, recipe, shapes, world)
    return attrs.evolve(cost, real=why)


def measure(
    count: Callable[[Blueprint], T],
    recipe: Recipe,
    shapes: Shapes,
    world: int,
    batching: Batching | None = None,
) -> tuple[T, str]:
    """`count` on a blueprint; with real zeros, and the reason, where a component looks at values."""
    with drawn(recipe, shapes, world=world, batching=batching) as blueprint:
        try:
            return count(blueprint), ""
        except Exception as error:  # A plugin may fail without values in any way.
            why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    with drawn(recipe, shapes, world=world, real=True, batching=batching) as blueprint:
        return count(blueprint), why


def flops_per_image(recipe: Recipe, shapes: Shapes, world: int = 1) -> float | None:
    """FLOPs of training on one image, found with shapes alone; None where a component looks at values.

    Called inside a run of several processes, it leaves the others alone.
    """
    try:
        with collectives.alone(), drawn(recipe, shapes, world=world) as blueprint:
            return _count_flops(blueprint) / blueprint.batching.micro
    except Exception:  # A plugin may fail without values in any way; then there is no figure.
        return None


def _count(blueprint: Blueprint) -> StepCost:
    saved = count_activations(blueprint)
    return StepCost(batch=blueprint.batching.micro, flops=_count_flops(blueprint), activation_bytes=saved)


def count_activations(blueprint: Blueprint) -> int:
    """Bytes that the forward of a micro-batch keeps for its backward."""
    known = [tensor for module in blueprint.modules() for tensor in (*module.parameters(), *module.buffers())]
    batch = blueprint.batch(blueprint.batching.micro)
    return count_saved_bytes(lambda: _forward(blueprint, batch), known)


def _count_flops(blueprint: Blueprint) -> int:
    batch = blueprint.batch(blueprint.batching.micro)
    # Attention by plain products: torch's counter does not know the CPU's fused one.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.backward(_forward(blueprint, batch))
    flops: int = counter.get_total_flops()
    return flops


def _forward(blueprint: Blueprint, batch: Batch) -> Tensor:
    draws, images = blueprint.draws(batch), blueprint.busiest()
    with autocast(torch.device("cpu"), blueprint.recipe.train.precision):
        losses = blueprint.assembly(batch, draws, images, blueprint.averages)
    return cast(Losses, losses).total
