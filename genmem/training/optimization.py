"""The one owner of an optimizer step: clip, decide, update, all on the device.

A step whose gradient or loss is not finite on any rank changes nothing: the fused optimizer reads
the flag on the device, EMA and memories are masked by it, and the host learns of it a step later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from genmem import collectives
from genmem.host import did_you_mean
from genmem.recipe.tables import GroupTable, OptimizerTable
from genmem.training.scaling import LossScale

_SCALE = "loss_scale"


class Optimization:
    """Fused AdamW with warm-up, schedule and clipping over everything trainable."""

    def __init__(
        self, table: OptimizerTable, module: nn.Module, images: int, scale: LossScale | None = None
    ) -> None:
        """An optimizer of `module`'s trainable parameters for a run of so many images.

        Args:
            table: The recipe's.
            module: Everything trainable.
            images: Length of the run; schedules end there.
            scale: Loss scale of a run in fp16.

        Raises:
            ValueError: A group's pattern that no parameter matches.
        """
        self.table, self.images, self.scale = table, images, scale
        self.names = {name: p for name, p in module.named_parameters() if p.requires_grad}
        groups = divide(table, self.names)
        self.rates = [group["lr"] for group in groups]
        self.adamw = torch.optim.AdamW(groups, lr=table.lr, betas=table.betas, eps=table.eps, fused=True)

    def step(self, images_seen: int, loss: Tensor, idle: Iterable[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Update the parameters from the accumulated gradients, unless a number is not finite.

        Args:
            images_seen: Images seen when this step is done; sets the learning rate.
            loss: Sum of the micro-batches' losses on this rank, unscaled.
            idle: Parameters of objectives that do not act now; left entirely alone.

        Returns:
            Whether the step was kept (bool, 0-dim, on the device), and the gradient's norm
            before clipping.
        """
        for parameter in idle:
            parameter.grad = None
        if self.scale is not None:
            self.scale.unscale(self.names.values())
        norm = nn.utils.clip_grad_norm_(self.names.values(), self.table.clip or float("inf"), foreach=True)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        lost = ~loss.isfinite()
        bad, lost = collectives.any_rank(torch.stack((lost | ~norm.isfinite(), lost))).unbind()
        factor = self.table.factor_at(images_seen, self.images)
        for group, rate in zip(self.adamw.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        # The fused kernel skips its update, and its step count, where found_inf is 1.
        self.adamw.found_inf = bad.float()  # type: ignore[attr-defined]
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        if self.scale is not None:
            self.scale.update(bad, lost)
        return ~bad, norm

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter name, and the loss scale."""
        moments = {
            f"{name}/{key}": value
            for name, parameter in self.names.items()
            for key, value in self.adamw.state.get(parameter, {}).items()
        }
        scale = {} if self.scale is None else self.scale.state()
        return moments | {f"{_SCALE}/{key}": value for key, value in scale.items()}

    def place(self, path: str) -> Tensor | None:
        """Where a tensor of a state is held; made if it is not there yet. None: here is no such thing."""
        name, key = path.rsplit("/", 1)
        if name not in self.names:
            return None
        parameter = self.names[name]
        held: dict[str, Tensor] = self.adamw.state[parameter]
        if key not in held:
            count = torch.zeros((), dtype=torch.float32, device=parameter.device)
            held[key] = count if key == "step" else torch.zeros_like(parameter)
        return held[key]

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave; a loss scale is left where this run has none.

        Raises:
            ValueError: A parameter this model does not have.
        """
        given = set()
        for path, value in state.items():
            name, key = path.rsplit("/", 1)
            given.add(name)
            if name != _SCALE:
                held = self.place(path)
                if held is None:
                    raise ValueError(f"the optimizer's state has {name!r}, which this model does not")
                held.copy_(value)
            elif self.scale is not None:
                self.scale.load(key, value)
        for name in self.names.keys() - given:
            self.adamw.state.pop(self.names[name], None)


def divide(table: OptimizerTable, names: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups for the optimizer: each `[optimizer.group.NAME]`, then all the others.

    Raises:
        ValueError: A pattern that no parameter matches; the nearest name is told.
    """
    rest = dict(names)
    found = []
    for name, group in table.group.items():
        _require_matches(name, group, names)
        chosen = [n for n in rest if any(fnmatchcase(n, pattern) for pattern in group.parameters)]
        found.append(
            {
                "params": [rest.pop(n) for n in chosen],
                "lr": table.lr if group.lr is None else group.lr,
                "weight_decay": table.weight_decay if group.weight_decay is None else group.weight_decay,
            }
        )
    found.append({"params": list(rest.values()), "lr": table.lr, "weight_decay": table.weight_decay})
    return [group for group in found if group["params"]]


def _require_matches(name: str, group: GroupTable, names: Mapping[str, nn.Parameter]) -> None:
    for pattern in group.parameters:
        if not any(fnmatchcase(n, pattern) for n in names):
            near = did_you_mean(pattern, names) or f"; names begin like {', '.join(list(names)[:3])}"
            raise ValueError(f"optimizer.group.{name}: no parameter is called {pattern!r}{near}")
