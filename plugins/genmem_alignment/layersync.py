"""LayerSync (arXiv 2510.12581): an early block follows a later one.

Shapes: B micro-batch, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from genmem.contracts import Objective, Step


class LayerSync(nn.Module):
    """-mean_n cos(h^k_n, sg h^k'_n), k < k'."""

    def __init__(self, tap: int, target: int) -> None:
        """The state after block `tap` follows that after block `target`."""
        super().__init__()
        self.tap = tap
        self.target = target

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32; the cosine is taken over channels, token by token."""
        hidden_BLD, target_BLD = (step.prediction.hidden[tap] for tap in (self.tap, self.target))
        wide = torch.promote_types(hidden_BLD.dtype, torch.float32)
        cos_BL = functional.cosine_similarity(hidden_BLD.to(wide), target_BLD.detach().to(wide), dim=-1)
        return Objective(-cos_BL.mean())
