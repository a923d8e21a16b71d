"""The most bytes that live at once while something is computed without gradients."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genmem.profiling.activations import key_of
from genmem.profiling.adapter import iterate_tensors


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor an operator makes until nobody holds its storage."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {key_of(tensor) for tensor in known}
        self.holders: Counter[int] = Counter()
        self.now: int = 0
        self.peak: int = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in iterate_tensors(result):
            self._hold(tensor)
        return result

    def _hold(self, tensor: Tensor) -> None:
        key, size = key_of(tensor), tensor.untyped_storage().nbytes()
        if key in self.known:
            return
        if not self.holders[key]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.holders[key] += 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= size


def measure_working_set(compute: Callable[[], Any], exclude: Iterable[Tensor] = ()) -> int:
    """Most bytes of tensors that `compute` makes and that live at once, the result among them.

    Args:
        compute: What is run, without gradients.
        exclude: Tensors that are there anyway: parameters, buffers.
    """
    with torch.no_grad(), _Live(exclude) as live:
        result = compute()
    del result
    peak: int = live.peak
    return peak
