"""The one owner of an optimizer step: clip, decide, update, all on the device.

A step whose gradient or loss is not finite on any rank changes nothing: the fused optimizer reads
the flag on the device, EMA and memories are masked by it, and the host learns of it a step later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from genmem import collectives
from genmem.recipe.tables import OptimizerTable


class Optimization:
    """Fused AdamW with warm-up and clipping over everything trainable."""

    def __init__(self, table: OptimizerTable, module: nn.Module) -> None:
        """An optimizer of `module`'s trainable parameters."""
        self.table = table
        self.names = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.adamw = torch.optim.AdamW(
            self.names.values(),
            lr=table.lr,
            betas=table.betas,
            eps=table.eps,
            weight_decay=table.weight_decay,
            fused=True,
        )

    def rate(self, images_seen: int) -> float:
        """Learning rate of the step that ends at so many images."""
        warmup = self.table.warmup
        return self.table.lr * (min(1.0, images_seen / warmup) if warmup else 1.0)

    def step(self, images_seen: int, loss: Tensor, idle: Iterable[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Update the parameters from the accumulated gradients, unless a number is not finite.

        Args:
            images_seen: Images seen when this step is done; sets the learning rate.
            loss: Sum of the micro-batches' losses on this rank.
            idle: Parameters of objectives that do not act now; left entirely alone.

        Returns:
            Whether the step was kept (bool, 0-dim, on the device), and the gradient's norm
            before clipping.
        """
        for parameter in idle:
            parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self.names.values(), self.table.clip or float("inf"), foreach=True)
        bad = collectives.any_rank(~(norm.isfinite() & loss.isfinite()))
        for group in self.adamw.param_groups:
            group["lr"] = self.rate(images_seen)
        # The fused kernel skips its update, and its step count, where found_inf is 1.
        self.adamw.found_inf = bad.float()  # type: ignore[attr-defined]
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return ~bad, norm

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter name."""
        return {
            f"{name}/{key}": value
            for name, parameter in self.names.items()
            for key, value in self.adamw.state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave.

        Raises:
            KeyError: A parameter this model does not have.
        """
        for path, value in state.items():
            name, key = path.rsplit("/", 1)
            parameter = self.names[name]
            self.adamw.state[parameter][key] = value.to(parameter.device).clone()
