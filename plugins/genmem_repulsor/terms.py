"""The repulsion: one functional for the batch and for the memory.

With v_i the negatives of query i, s the similarity and, for squared distances, the anchor α_i:

    ℓ_i = log(α_i + Σ_{j∈v_i} exp(s_ij / τ)),   n_i = α_i + |v_i|
    per query   mean_i (ℓ_i - log n_i)
    global      log Σ_i exp ℓ_i - log Σ_i n_i     over a group

Shapes: G groups, N samples in a group, E width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from genmem.contracts import Attended, Hide, Metric


def score_within(q_GNE: Tensor, hide_G: Hide, scale: float, metric: Metric) -> Attended:
    """log Σ_j exp(scale · s(q_i, q_j)) over the others of the group, (G, N); gradient to both sides.

    A sample is left out of its own sum. Its term would have no gradient on the sphere, where it
    weighs more than the others together at small τ; the anchor stands for it elsewhere.
    """
    with torch.autocast(q_GNE.device.type, enabled=False):
        logits_GNN = scale * _similarity(q_GNE, metric)
    hidden_GNN = _hidden(q_GNE, hide_G)
    alone_GN1 = hidden_GNN.all(-1, keepdim=True)
    # A row of nothing but -inf has no gradient; what it holds instead counts nowhere.
    lse_GN = logits_GNN.masked_fill(hidden_GNN, -torch.inf).masked_fill(alone_GN1, 0.0).logsumexp(-1)
    return Attended(lse_GN, (~hidden_GNN).sum(-1).float())


def _similarity(q_GNE: Tensor, metric: Metric) -> Tensor:
    if metric == "dot":
        return q_GNE @ q_GNE.mT
    # Distances do not change by a shift, and small numbers cancel less.
    q_GNE = q_GNE - q_GNE.detach().mean(1, keepdim=True)
    square_GN = q_GNE.square().sum(-1)
    distance_GNN = square_GN[..., None] + square_GN[..., None, :] - 2 * q_GNE @ q_GNE.mT
    return -distance_GNN.clamp(min=0.0)


def _hidden(q_GNE: Tensor, hide: Hide) -> Tensor:
    """(G, N, N) bool: pairs that do not repel."""
    count = q_GNE.shape[1]
    hidden = torch.eye(count, dtype=torch.bool, device=q_GNE.device).expand(len(q_GNE), -1, -1)
    if hide.ids_B is not None:
        hidden = hidden | (hide.ids_B[..., None] == hide.ids_B[..., None, :])
    if hide.label_B is not None:
        same = hide.label_B[..., None] == hide.label_B[..., None, :]
        hidden = hidden | (same & (hide.label_B[..., None] >= 0))
    if hide.t_B is not None:
        hidden = hidden | ((hide.t_B[..., None] - hide.t_B[..., None, :]).abs() >= hide.window)
    return hidden


def add_anchor(seen: Attended, anchor: int | None) -> Attended:
    """ℓ and n with α = |v| / (B_ref - 1), so that ℓ - log n ≥ -log B_ref however many negatives.

    With B_ref samples in a group α is 1: the sample itself, at distance 0.
    """
    if anchor is None:
        return seen
    alpha = seen.count_B.clamp(min=1.0) / (anchor - 1)
    return Attended(torch.logaddexp(seen.lse_B, alpha.log()), seen.count_B + alpha)


def reduce_terms(seen_GN: Attended, ready_GN: Tensor, reduction: Literal["per_query", "global"]) -> Tensor:
    """The mean over groups of the reduction over queries that are ready; 0 where none is.

    Below that it is 0 with gradient 0, but still depends on q: no parameter is unused.
    """
    lse_GN, count_GN = seen_GN
    count_GN = count_GN.clamp(min=torch.finfo(torch.float32).tiny)
    if reduction == "per_query":
        return (ready_GN * (lse_GN - count_GN.log())).mean()
    some_G = ready_GN.any(-1)
    counted_GN = ready_GN | ~some_G[:, None]
    high_G = lse_GN.masked_fill(~counted_GN, -torch.inf).logsumexp(-1)
    return (some_G * (high_G - (count_GN * counted_GN).sum(-1).log())).mean()
