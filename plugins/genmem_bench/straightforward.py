"""The form `negatives` compares with, as one would write it without genmem.

Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_mean_exp(
    q_BE: Tensor, bank_NE: Tensor, temperature: float, ids_B: Tensor, bank_ids_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean over queries of logsumexp(q Kᵀ / τ) without own ids, and its gradient in q."""
    logits = (q_BE @ bank_NE.T) / temperature
    logits = logits.masked_fill(ids_B[:, None] == bank_ids_N[None, :], -torch.inf)
    loss = torch.logsumexp(logits, dim=1).mean()
    (gradient,) = torch.autograd.grad(loss, q_BE)
    return loss.detach(), gradient
