"""Memory by part, of one process of a run: in training and at inference.

The bytes of weights, gradients, optimizer, averages and memories are exact. Activations are what
autograd keeps of one micro-batch, found with shapes alone; a device's allocator adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from genmem.building import Shapes
from genmem.profiling.blueprint import Blueprint, example
from genmem.profiling.held import count_held, module_bytes
from genmem.profiling.step import StepCost, measure, measure_step
from genmem.profiling.working_set import measure_working_set
from genmem.recipe.tables import Recipe


@attrs.frozen(kw_only=True)
class Footprint:
    """{part: bytes} on the device of one process; memories that lie on disk are told apart."""

    training: Mapping[str, int]
    """weights, gradients, optimizer, ema, activations, and memory.NAME for every memory; with several
    processes DDP's reduction buckets besides, or what FSDP gathers."""

    inference: Mapping[str, int]
    """weights, working set, and memory.NAME for the memory that conditions."""

    elsewhere: Mapping[str, int]
    """{memory.NAME: bytes of its rows that stay on the host or on disk}."""

    trained: int
    """Parameters that train, objectives' heads among them."""

    micro_batch: int
    """Images whose activations are counted."""

    sample_batch: int
    """Samples whose working set is counted."""

    def totals(self) -> tuple[int, int]:
        """Bytes in training, and at inference."""
        return sum(self.training.values()), sum(self.inference.values())


def measure_footprint(
    recipe: Recipe, shapes: Shapes, world: int = 1, step: StepCost | None = None
) -> Footprint:
    """Memory of one of `world` processes; seconds for the largest networks, and next to no memory.

    Args:
        recipe: What would run; nothing of it is prepared or read.
        shapes: What the data set fixes: `genmem.building.expected_shapes`, or `shapes_of` a set.
        world: Processes that share a step.
        step: The cost of a step, where it is known already.

    Raises:
        ValueError: Batch, processes and objectives that do not fit together.
    """
    step = measure_step(recipe, shapes, world) if step is None else step
    (held, memories, trained), _ = measure(_count_held, recipe, shapes, world)
    (samples, working), _ = measure(_count_working_set, recipe, shapes, 1)
    rows = {f"memory.{name}": device for name, (device, _) in memories.items()}
    conditions = f"memory.{recipe.condition.memory}"
    return Footprint(
        training=held["training"] | {"activations": step.activation_bytes} | rows,
        inference=held["inference"]
        | {"working set": working}
        | {name: size for name, size in rows.items() if name == conditions},
        elsewhere={
            f"memory.{name}": size - device for name, (device, size) in memories.items() if size > device
        },
        trained=trained,
        micro_batch=step.batch,
        sample_batch=samples,
    )


def _count_held(
    blueprint: Blueprint,
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[int, int]], int]:
    """Bytes that stay from step to step, {memory: bytes on the device, bytes in all}, and how many
    parameters train."""
    memories = {
        name: (store.extent.device_bytes, store.extent.num_bytes)
        for name, store in blueprint.memories.items()
    }
    sharded = blueprint.recipe.train.shard and blueprint.batching.world > 1
    training = count_held(blueprint, sharded=sharded)
    inference = {"weights": module_bytes(blueprint.assembly.backbone)}
    trained = sum(p.numel() for p in blueprint.assembly.parameters() if p.requires_grad)
    return {"training": training, "inference": inference}, memories, trained


def _count_working_set(blueprint: Blueprint) -> tuple[int, int]:
    """Samples generated at once, and the most bytes one evaluation of the network makes of them."""
    recipe, backbone = blueprint.recipe, blueprint.assembly.backbone.eval()
    name = recipe.condition.memory
    width = blueprint.memories[name].width if name else 0
    x, t, cond = example(recipe, blueprint.shapes, width, recipe.evaluate.batch)
    return len(x), measure_working_set(
        lambda: backbone(x, t, cond), [*backbone.parameters(), *backbone.buffers()]
    )
