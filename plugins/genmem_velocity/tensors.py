"""What objectives on the velocity compare."""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import Step


def prediction_of(step: Step) -> tuple[Tensor, Tensor]:
    """The prediction, without a learned variance, and its target: (B, C, H, W) each, at least fp32.

    Autocast lowers products of matrices alone, and nothing here is one: what is fp32 stays fp32.
    """
    predicted, target = step.prediction.output[:, : step.target.shape[1]], step.target
    wide = torch.promote_types(predicted.dtype, torch.float32)
    return predicted.to(wide), target.to(wide)
