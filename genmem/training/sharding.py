"""One model on several processes: a copy on each (DDP), or split over them block by block (FSDP2).

Split, a block's weights are whole on a process only while it computes; optimizer and averages are split
likewise.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from genmem import collectives
from genmem.contracts import Prediction
from genmem.devices import DTYPES
from genmem.recipe.tables import Recipe


def replicate(assembly: nn.Module, device: torch.device) -> nn.Module:
    """A copy on every process; gradients are averaged."""
    backbone = assembly.get_submodule("backbone")
    backbone.register_forward_hook(_own)
    for name in backbone.block_names:  # type: ignore[union-attr]
        backbone.get_submodule(name).register_forward_pre_hook(_join, with_kwargs=True)
    devices = [device.index] if device.type == "cuda" else None
    # No buffer changes in a forward; torch 2.13 gave the switch a new name.
    names = inspect.signature(DistributedDataParallel.__init__).parameters
    switch = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    off: dict[str, Any] = {switch: False}
    return DistributedDataParallel(assembly, device_ids=devices, **off)


def _own(network: nn.Module, args: tuple[Any, ...], prediction: Prediction) -> Prediction:
    """A network's outputs in memory of their own, not as views.

    FSDP hangs on them what gathers the weights for the backward, and an operation in place on a view
    would drop that. DDP does likewise, so that both add up numbers that lie in the same order.
    """

    def own(value: Tensor) -> Tensor:
        return value.clone() if value.requires_grad and value._is_view() else value

    hidden = {tap: own(value) for tap, value in prediction.hidden.items()}
    return Prediction(own(prediction.output), hidden)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _join(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's inputs through a node of their own, as FSDP has one.

    What a block and the objectives that tap its input send back then meets in the same order, and DDP
    and FSDP give the same bits.
    """

    def own(value: Any) -> Any:
        return value.view_as(value) if isinstance(value, Tensor) and value.requires_grad else value

    return tuple(map(own, args)), {name: own(value) for name, value in kwargs.items()}


def shard(
    assembly: nn.Module, averages: Iterable[nn.Module], device: torch.device, precision: str
) -> nn.Module:
    """Split everything trainable, and the averages of the backbone, in place.

    Blocks are gathered in the precision they compute in; embeddings, the last layer and objectives in
    fp32, and so is every average.

    Raises:
        ValueError: A parameter that cannot be split.
    """
    _refuse_single_numbers(assembly)
    mesh = init_device_mesh(device.type, (collectives.world_size(),))
    backbone = assembly.get_submodule("backbone")
    assert isinstance(backbone, nn.Module)
    # Before FSDP's own hooks, which come after it then.
    backbone.register_forward_hook(_own)
    gathered_in = None if precision == "fp32" else DTYPES[precision]
    _split(backbone, mesh, MixedPrecisionPolicy(gathered_in, torch.float32, cast_forward_inputs=False))
    for average in averages:
        _split(average, mesh, MixedPrecisionPolicy())
    fully_shard(assembly, mesh=mesh)
    return assembly


def _split(backbone: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    for name in backbone.block_names:  # type: ignore[union-attr]
        fully_shard(backbone.get_submodule(name), mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    # It is called by itself, too: to sample, and as a teacher.
    fully_shard(backbone, mesh=mesh, reshard_after_forward=True)


def _refuse_single_numbers(assembly: nn.Module) -> None:
    single = [name for name, parameter in assembly.named_parameters() if parameter.ndim == 0]
    if single:
        raise ValueError(
            f"train.shard = true cannot split {', '.join(single)}: a parameter without dimensions; "
            "give it one, of size 1, or leave train.shard out"
        )


def refuse_halves(recipe: Recipe) -> None:
    """Scores need whole weights in fp32; those that train are gathered in the precision of the blocks.

    Raises:
        ValueError: The recipe scores them.
    """
    if recipe.train.precision != "fp32" and recipe.evaluate.weights == "online":
        raise ValueError(
            f'train.shard = true in {recipe.train.precision} cannot score evaluate.weights = "online"; '
            'name an [ema] table there, or set train.precision = "fp32"'
        )


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """A split module with all its weights on every process, so that each may call it as often as it likes.

    Collective at the start. A module that is not split stays as it is.
    """
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


@contextmanager
def kept_whole(module: nn.Module, last: bool) -> Iterator[None]:
    """A split module whose weights stay whole through a forward that goes backward inside itself.

    Nothing is reduced there: gradients accumulated before are, if at all, in the backward that follows,
    together with its own.

    Args:
        module: The whole model, split or not.
        last: Whether that backward reduces them.
    """
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.set_reshard_after_backward(False, recurse=False)
        part.set_requires_gradient_sync(False, recurse=False)
    yield
    for part in parts:
        part.set_reshard_after_forward(part is not module, recurse=False)
        part.set_reshard_after_backward(True, recurse=False)
        part.set_requires_gradient_sync(last, recurse=False)
