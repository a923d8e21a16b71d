"""What a map is trained by.

Shapes: B pairs, E width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = math.log(100.0)
"""The scale of the logits is kept below this, as CLIP keeps it."""


class MeanSquare(nn.Module):
    """Mean over entries of (found - row)²: the paper's, from another encoder."""

    def forward(self, found_BE: Tensor, row_BE: Tensor) -> Tensor:
        """Scalar."""
        return F.mse_loss(found_BE, row_BE)


class Contrast(nn.Module):
    """CLIP's loss between what was found and rows, both of norm 1; its scale is learned.

    The mean of two cross-entropies over the (B, B) products: which row belongs to this text, and
    which text to this row. Texts that are the same give the same logits, so their rows share a
    target: the gradient is the same as if all of them were right.
    """

    def __init__(self) -> None:
        """As CLIP begins: a temperature of 0.07."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, found_BE: Tensor, row_BE: Tensor) -> Tensor:
        """Scalar."""
        logits_BB = found_BE @ row_BE.mT * self.log_scale.clamp(max=LARGEST).exp()
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.mT, own_B)) / 2


LOSSES: dict[str, type[nn.Module]] = {"mse": MeanSquare, "clip": Contrast}
