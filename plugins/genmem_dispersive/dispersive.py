"""The dispersive objective (Wang & He 2025, arXiv 2506.09027), over groups of the global batch.

Shapes: B micro-batch, L tokens, D width, G groups, N samples in a group, M = L · D, or D if pooled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from genmem.collectives import gather_with_gradient
from genmem.contracts import Objective, Step
from genmem_dispersive.forms import form_of
from genmem_dispersive.views import see_again

if TYPE_CHECKING:
    from genmem_dispersive.config import DispersiveConfig


class Measured(NamedTuple):
    """The loss of one hidden state."""

    value: Tensor
    metrics: dict[str, Tensor]


class Dispersive(nn.Module):
    """Mean over its taps of one form's loss, over consecutive groups of the global batch."""

    def __init__(self, config: DispersiveConfig, taps: tuple[int, ...]) -> None:
        """The loss of the hidden states after these many blocks."""
        super().__init__()
        self.config = config
        self.taps = taps
        self.form = form_of(config)

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32.

        Raises:
            ValueError: A micro-batch that is not whole groups.
        """
        how, hidden = self.config.positive, step.prediction.hidden
        second: Mapping[int, Tensor] = {}
        if how != "none":
            second = see_again(step, self.taps, how, self.config.resolved_gap)
        with torch.autocast(hidden[self.taps[0]].device.type, enabled=False):
            measured = [self._measure(hidden[tap], second.get(tap)) for tap in self.taps]
            metrics = {
                name: torch.stack([each.metrics[name] for each in measured]).mean()
                for name in measured[0].metrics
            }
            for tap in self.taps:
                name = "rms" if len(self.taps) == 1 else f"rms/{tap}"
                metrics[name] = _exact(hidden[tap].detach()).square().mean().sqrt()
            value = torch.stack([each.value for each in measured]).mean()
        return Objective(value, metrics)

    def _measure(self, hidden_BLD: Tensor, second_BLD: Tensor | None) -> Measured:
        z_GNM = self._divide(hidden_BLD)
        # The mean of ‖z_i - z_j‖² over pairs i ≠ j is twice the variance.
        metrics = {"distance": 2 * z_GNM.detach().var(1).mean()}
        if second_BLD is None:
            value = self.form.disperse(z_GNM)
        else:
            p_GNM = self._divide(second_BLD)
            value = self.form.contrast(z_GNM, p_GNM)
            metrics["positive_distance"] = (z_GNM - p_GNM).detach().square().mean()
        floor = self.form.floor(*z_GNM.shape[1:], twin=second_BLD is not None)
        if floor is not None:
            metrics["above_floor"] = value.detach() - floor
        return Measured(value, metrics)

    def _divide(self, hidden_BLD: Tensor) -> Tensor:
        """(G, N, M): the groups of this micro-batch; one group of all ranks' rows for "global"."""
        exact_BLD, group = _exact(hidden_BLD), self.config.coupling
        z_BM = exact_BLD.mean(1) if self.config.pool == "mean" else exact_BLD.flatten(1)
        if group == "global":
            return gather_with_gradient(z_BM)[None]
        if len(z_BM) % group:
            raise ValueError(
                f"a micro-batch of {len(z_BM)} is not whole groups of {group}; "
                f"take a multiple of {group} samples on every process"
            )
        return z_BM.view(-1, group, z_BM.shape[1])


def _exact(hidden: Tensor) -> Tensor:
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))
