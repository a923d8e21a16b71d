"""Exponential moving averages of the backbone: frozen fp32 copies, owned by the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from genmem.recipe.tables import EmaTable


class Averages:
    """Every `[ema.NAME]` of a recipe. A skipped step moves none of them."""

    def __init__(
        self, tables: Mapping[str, EmaTable], backbone: nn.Module, build: Callable[[], nn.Module]
    ) -> None:
        """Build each average anew from the recipe and start it as an exact copy."""
        self.tables = dict(tables)
        self.modules = {name: _frozen(build(), backbone) for name in tables}
        self._online: list[Tensor] = list(backbone.parameters())
        self._held: dict[str, list[Tensor]] = {
            name: list(module.parameters()) for name, module in self.modules.items()
        }

    @torch.no_grad()
    def update(self, steps: int, keep: Tensor) -> None:
        """θ̄ ← θ̄ + (1 - d)(θ - θ̄) after optimizer step number `steps` (from 1).

        Args:
            steps: Optimizer steps taken, this one included.
            keep: bool, 0-dim, on the device; False leaves every average as it is.
        """
        for name, table in self.tables.items():
            decay = min(table.decay, (1 + steps) / (10 + steps)) if table.ramp else table.decay
            _move(self._held[name], self._online, keep * (1.0 - decay))


def _move(held: Sequence[Tensor], towards: Sequence[Tensor], share: Tensor) -> None:
    """θ̄ += share · (θ - θ̄), each rank its own part of what is sharded; `share` is 0-dim."""
    held, towards = [_local(tensor) for tensor in held], [_local(tensor) for tensor in towards]
    if share.device.type == "cpu":
        # One pass over the memory. Accelerators have no such kernel for many tensors at once.
        torch._foreach_lerp_(held, towards, [share] * len(held))
        return
    change = torch._foreach_sub(towards, held)
    torch._foreach_mul_(change, share)
    torch._foreach_add_(held, list(change))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _frozen(module: nn.Module, like: nn.Module) -> nn.Module:
    module.to(next(like.parameters()).device, torch.float32)
    module.load_state_dict(like.state_dict())
    return module.requires_grad_(False).eval()
