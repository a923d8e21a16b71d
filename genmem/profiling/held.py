"""Bytes that a process of a run holds from step to step, part by part: exact for DDP and for FSDP."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from genmem.profiling.blueprint import Blueprint

STEP_BYTES = 4
"""AdamW counts the steps of every tensor of parameters."""

FP32 = 4


def count_held(blueprint: Blueprint, *, sharded: bool) -> dict[str, int]:
    """{part: bytes} of the first of the blueprint's processes, which holds the most.

    Args:
        blueprint: Of a run of several processes, or of one.
        sharded: By FSDP: of every parameter, with gradient, moments and averages, a process holds
            ceil(rows / processes) rows of the first dimension. Else by DDP: all of it.
    """
    assembly, world = blueprint.assembly, blueprint.batching.world
    trained = [p for p in assembly.parameters() if p.requires_grad]
    over = world if sharded else 1
    gradients = sum(share_of(p, over) for p in trained)
    parts = {"weights": module_bytes(assembly, over), "gradients": gradients}
    if sharded:
        parts["gathered (about)"] = _gathered(blueprint)
    elif world > 1:
        parts["reduction buckets"] = gradients  # DDP's own copies
    parts["optimizer"] = 2 * gradients + STEP_BYTES * len(trained)
    parts["ema"] = sum(module_bytes(module, over) for module in blueprint.averages.values())
    return parts


def module_bytes(module: nn.Module, world: int = 1) -> int:
    """Of parameters, shared by so many processes, and of buffers, which each has whole."""
    own = sum(share_of(parameter, world) for parameter in module.parameters())
    return own + sum(buffer.nbytes for buffer in module.buffers())


def share_of(tensor: Tensor, world: int) -> int:
    """Bytes of the largest of `world` shares along the first dimension; the others are padded to it."""
    if world == 1:
        return tensor.nbytes
    rows = -(-len(tensor) // world)
    return rows * tensor[:1].numel() * tensor.element_size()


def _gathered(blueprint: Blueprint) -> int:
    """What FSDP gathers for a while: two blocks in the precision of the forward, what belongs to no block
    and the gradients of one block in fp32."""
    assembly = blueprint.assembly
    blocks = [assembly.backbone.get_submodule(name) for name in assembly.backbone.block_names]  # type: ignore[union-attr]
    sizes = [_count(block.parameters()) for block in blocks]
    rest = _count(assembly.parameters()) - sum(sizes)
    size = FP32 if blueprint.recipe.train.precision == "fp32" else FP32 // 2
    largest = max(sizes, default=0)
    return size * 2 * largest + FP32 * (rest + largest)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
