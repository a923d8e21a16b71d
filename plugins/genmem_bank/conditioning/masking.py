"""Masking of memory rows in training, against over-reliance on them (GMem, method and ablation).

Shapes: B samples, E width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genmem.draws import Draws

Mask = Literal["zero", "random", "noise", "none"]
Rule = Literal["exact", "independent"]
Scale = Literal["row", "width", "unit"]


class Masking(NamedTuple):
    """What training does to rows."""

    mask: Mask
    """zero: masked entries become 0. random: they become Gaussian noise. noise: `ratio` times
    Gaussian noise is added to every entry."""

    ratio: float
    """Share of the entries that is masked; for "noise", its strength."""

    rule: Rule = "exact"
    """Which entries: see `hidden_entries`."""

    scale: Scale = "row"
    """Deviation of the noise: ‖row‖/√E, the row's own; 1/√E, a unit row's; or 1."""


def mask_rows(row_BE: Tensor, masking: Masking, draws: Draws, name: str) -> Tensor:
    """The rows (B, E) as training sees them.

    Args:
        row_BE: Rows.
        masking: What is done to them.
        draws: Random numbers, one row for each sample.
        name: Distinguishes the draws of one bank from another's.
    """
    mask, ratio, rule, scale = masking
    width = row_BE.shape[1]
    if mask == "none" or ratio == 0:
        return row_BE
    if mask == "zero":
        filling_BE = torch.zeros_like(row_BE)
    else:
        filling_BE = draws.normal(f"mask/{name}/noise", (width,)).to(row_BE) * _deviation(row_BE, scale)
    if mask == "noise":
        return row_BE + ratio * filling_BE
    hidden_BE = hidden_entries(draws.uniform(f"mask/{name}/entries", (width,)), ratio, rule)
    # GMem's code masks by dropout, which divides what it keeps so that the mean stays.
    kept_BE = row_BE / (1 - ratio) if rule == "independent" else row_BE
    return torch.where(hidden_BE, filling_BE, kept_BE)


def hidden_entries(uniform_BE: Tensor, ratio: float, rule: Rule) -> Tensor:
    """(B, E) bool from uniform numbers: exactly round(ratio · E) in each row, or each by its own coin."""
    if rule == "independent":
        return uniform_BE < ratio
    count = round(ratio * uniform_BE.shape[1])
    chosen_BK = uniform_BE.topk(count, dim=1).indices
    return torch.zeros_like(uniform_BE, dtype=torch.bool).scatter_(1, chosen_BK, True)


def _deviation(row_BE: Tensor, scale: Scale) -> Tensor:
    """(B, 1): of the noise."""
    if scale == "unit":
        return torch.ones_like(row_BE[:, :1])
    length_B1 = torch.ones_like(row_BE[:, :1]) if scale == "width" else row_BE.norm(dim=1, keepdim=True)
    return length_B1 * float(row_BE.shape[1] ** -0.5)
