"""For tests: code under `no_host_synchronisation()` may not look at a tensor's values."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What makes the host wait for a device: reading a number, and results whose size depends on values.
_WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
}


class no_host_synchronisation(TorchDispatchMode):
    """Raises at an operation that would make the host wait for an accelerator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool
            for a in args
            if isinstance(a, (list, tuple))
            for i in a
        )
        if func in _WAITING or (
            masks and func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
        ):
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))
