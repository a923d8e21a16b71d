"""Contrastive flow matching (ΔFM, arXiv 2506.05350).

Shapes: B micro-batch, C H W sample, N rows that a partner may be among (the micro-batch, or all
ranks'), n samples of a group.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from genmem.collectives import gather, rank, world_size
from genmem.contracts import Objective, Step
from genmem.draws import Draws
from genmem_velocity.tensors import prediction_of


class ContrastiveFlow(nn.Module):
    """-mean ‖v_i - u_π(i)‖², element means; π(i) another sample of the group of i, drawn anew each time."""

    def __init__(self, group: int | Literal["global"], *, other_class: bool, skip_dropped: bool) -> None:
        """Partners within `group` consecutive samples of the global batch."""
        super().__init__()
        self.group = group
        self.other_class = other_class
        self.skip_dropped = skip_dropped

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32.

        Raises:
            ValueError: A micro-batch that is not whole groups.
        """
        v, u = prediction_of(step)
        member_Bn, place_B = self._groups(len(v), v.device)
        label_N = self._pool(step.batch.label_B)
        other_B = draw_partners(step.draws, member_Bn, place_B, label_N if self.other_class else None)
        # Targets are constants, so that ranks need to share no gradient.
        distance_B = (v - self._pool(u.detach())[other_B]).square().flatten(1).mean(1)
        value = -(self._share(step, member_Bn) * distance_B).mean()
        metrics = {
            "same_class": (label_N[other_B] == step.batch.label_B).float().mean(),
            "scale": (v.detach().square().mean() / u.square().mean()).sqrt(),
        }
        return Objective(value, metrics)

    def _pool(self, rows: Tensor) -> Tensor:
        return gather(rows) if self.group == "global" else rows

    def _groups(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows of the pool that make each sample's group (B, n), and the sample's own row (B,)."""
        place_B = torch.arange(batch, device=device)
        if self.group == "global":
            member_N = torch.arange(world_size() * batch, device=device)
            return member_N.expand(batch, -1), place_B + rank() * batch
        if batch % self.group:
            raise ValueError(
                f"a micro-batch of {batch} is not whole groups of {self.group}; "
                f"take a multiple of {self.group} samples on every process"
            )
        first_B = place_B // self.group * self.group
        return first_B[:, None] + torch.arange(self.group, device=device), place_B

    def _share(self, step: Step, member_Bn: Tensor) -> Tensor:
        """(B,) how much each sample counts: 1, or 0 where it is skipped and n / kept where it is not."""
        dropped_B = step.cond.drop_B
        if not self.skip_dropped or dropped_B is None:
            return torch.ones(len(member_Bn), device=member_Bn.device)
        kept_Bn = self._pool((~dropped_B).float())[member_Bn]
        return (~dropped_B).float() / kept_Bn.mean(1).clamp(min=1e-12)


def draw_partners(draws: Draws, member_Bn: Tensor, place_B: Tensor, label_N: Tensor | None) -> Tensor:
    """(B,) rows of the pool: for each sample another member of its group, all equally likely.

    Args:
        draws: One row for each sample.
        member_Bn: Rows that make its group.
        place_B: Its own row.
        label_N: Classes of the pool, where only other classes are wanted; a group without any gives
            a sample of the same class.
    """
    allowed_Bn = member_Bn != place_B[:, None]
    if label_N is not None:
        apart_Bn = label_N[member_Bn] != label_N[place_B][:, None]
        allowed_Bn = torch.where(apart_Bn.any(1, keepdim=True), apart_Bn, allowed_Bn)
    chosen_B = draws.integers("contrastive-flow", allowed_Bn.sum(1))
    column_B = (allowed_Bn.cumsum(1) <= chosen_B[:, None]).sum(1)
    return member_Bn.gather(1, column_B[:, None])[:, 0]
