"""Between a module that takes NamedTuples and a tracer that takes tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def iterate_tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and mappings, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from iterate_tensors(part)
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from iterate_tensors(part)


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nested tuples, lists and mappings with every tensor changed; the rest is kept."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(part, change) for part in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map_tensors(part, change) for part in tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(part, change) for key, part in tree.items()}
    return tree


class FlatModule(nn.Module):
    """`module`, called with the tensors of `inputs` alone; gives the tensors of what it returns."""

    def __init__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Remember how `inputs` are built from their tensors."""
        super().__init__()
        self.module = module
        self._inputs = inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The module's output, flat."""
        queue = iter(tensors)
        inputs = map_tensors(self._inputs, lambda _: next(queue))
        return tuple(iterate_tensors(self.module(*inputs)))
