"""Memory of activations: the bytes autograd keeps between a forward and its backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def count_saved_bytes(compute: Callable[[], Any], exclude: Iterable[Tensor] = ()) -> int:
    """Bytes of the storages that `compute` saves for its backward, each counted once.

    Args:
        compute: Runs a forward with gradients; what it returns is kept until the count is done.
        exclude: Tensors that are there anyway: parameters, buffers.

    Raises:
        ValueError: A tensor on the meta device, where attention saves what it would not save
            on a real one. Fake tensors of a real device are right, and cost nothing.
    """
    known = {key_of(tensor) for tensor in exclude}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            raise ValueError("activations cannot be measured on the meta device: it saves other tensors")
        if key_of(tensor) not in known:
            # Holding the storage keeps its address from being given to another.
            saved[key_of(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    total = sum(storage.nbytes() for storage in saved.values())
    del result
    return total


def key_of(tensor: Tensor) -> int:
    """What tells a storage from others while it lives; views share it. Fake tensors have no data."""
    return int(tensor.untyped_storage()._cdata)


def count_activation_bytes(module: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Bytes that a forward of `module(*inputs)` keeps for its backward, parameters and buffers apart.

    The batch itself is among them where a layer saves it. The mode is the module's own.

    Raises:
        ValueError: A module on the meta device.
    """
    return count_saved_bytes(lambda: module(*inputs), [*module.parameters(), *module.buffers()])
