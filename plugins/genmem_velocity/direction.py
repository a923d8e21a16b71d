"""The velocity-direction term of LightningDiT (arXiv 2501.01423).

Shapes: B micro-batch, C channels of a sample, H W sample.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from genmem.contracts import Objective, Step
from genmem_velocity.tensors import prediction_of

_EPS = 1e-8


class Direction(nn.Module):
    """mean (1 - cos(v, u)); v predicted, u the target, cosines over channels or whole samples."""

    def __init__(self, over: Literal["channels", "sample"], floor: float) -> None:
        """`floor`: root mean square that a prediction counts with at least."""
        super().__init__()
        self.over = over
        self.floor = floor

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32."""
        v, u = prediction_of(step)
        if self.over == "sample":
            v, u = v.flatten(1), u.flatten(1)
        return Objective((1 - cosine(v, u, self.floor)).mean())


def cosine(v: Tensor, u: Tensor, floor: float) -> Tensor:
    """v · u / (max(‖v‖, floor · √n) ‖u‖) over axis 1, of n numbers.

    A network whose output begins at exactly 0 has no direction; there the floor keeps the slope
    at 1 / (floor √n), where a floor of 1e-8 would give 1e8.
    """
    v_norm = torch.linalg.vector_norm(v, dim=1).clamp(min=floor * math.sqrt(v.shape[1]))
    u_norm = torch.linalg.vector_norm(u, dim=1).clamp(min=_EPS)
    cosines: Tensor = (v * u).sum(1) / (v_norm * u_norm)
    return cosines
