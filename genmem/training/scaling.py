"""The loss scale of a run in fp16: gradients too small for the format are lifted into its range.

All on the device. A step whose gradients overflow is skipped like any other that is not finite, and halves
the scale; a long row of good steps doubles it. A loss that is not finite itself says nothing about the scale.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genmem.training.storage import local

FIRST = 2.0**16
PATIENCE = 2000
"""Good steps in a row after which the scale is doubled."""


class LossScale:
    """A factor on the loss, and the rule by which it follows the gradients."""

    def __init__(self, device: torch.device, first: float = FIRST, patience: int = PATIENCE) -> None:
        """A scale that begins at `first`."""
        self.value = torch.tensor(first, device=device)
        self.good = torch.tensor(0, device=device)
        """Good steps since it last changed."""

        self.patience = patience

    def __call__(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` on."""
        return loss * self.value

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale."""
        gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self.value.reciprocal())

    def update(self, bad: Tensor, lost: Tensor) -> None:
        """Follow one step. Both flags are bool, 0-dim, on the device, and the same on all ranks.

        Args:
            bad: Whether it was skipped.
            lost: Whether the loss itself was not finite.
        """
        good = torch.where(bad, 0, self.good + 1)
        grown = good >= self.patience
        followed = torch.where(bad, self.value / 2, torch.where(grown, self.value * 2, self.value))
        self.value = torch.where(lost, self.value, followed)
        self.good = torch.where(lost, self.good, torch.where(grown, 0, good))

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"value": self.value.clone(), "good": self.good.clone()}

    def load(self, key: str, value: Tensor) -> None:
        """Take up one number of a state."""
        setattr(self, key, value.to(self.value.device))
