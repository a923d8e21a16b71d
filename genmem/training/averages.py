"""Exponential moving averages of the backbone: frozen fp32 copies, owned by the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from genmem.recipe.tables import EmaTable
from genmem.training.storage import local


class Averages:
    """Every `[ema.NAME]` of a recipe. A skipped step moves none of them."""

    def __init__(
        self, tables: Mapping[str, EmaTable], backbone: nn.Module, build: Callable[[], nn.Module]
    ) -> None:
        """Build each average anew from the recipe and start it as an exact copy."""
        self.tables = dict(tables)
        self.modules = {name: _frozen(build(), backbone) for name in tables}
        self._backbone = backbone

    @cached_property
    def _online(self) -> list[Tensor]:
        """What this rank holds of the weights; known when they are split, if they are."""
        return [local(parameter) for parameter in self._backbone.parameters()]

    @cached_property
    def _held(self) -> dict[str, list[Tensor]]:
        return {name: [local(p) for p in module.parameters()] for name, module in self.modules.items()}

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


def _move(held: list[Tensor], towards: list[Tensor], share: Tensor) -> None:
    """θ̄ += share · (θ - θ̄), each rank its own part of what is sharded; `share` is 0-dim."""
    if share.device.type == "cpu":
        # One pass over the memory. Accelerators have no such kernel for many tensors at once.
        torch._foreach_lerp_(held, towards, [share] * len(held))
        return
    change = torch._foreach_sub(towards, held)
    torch._foreach_mul_(change, share)
    torch._foreach_add_(held, list(change))


def _frozen(module: nn.Module, like: nn.Module) -> nn.Module:
    module.to(next(like.parameters()).device, torch.float32)
    module.load_state_dict(like.state_dict())
    return module.requires_grad_(False).eval()
