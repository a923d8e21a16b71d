"""The repulsor objective: repulsion from a memory of past features, and within the batch.

Shapes: B micro-batch, L tokens, D hidden width, E memory width, G groups, N samples in a group.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmem.collectives import gather_with_gradient
from genmem.contracts import Facts, MemoryStore, Objective, Step
from genmem_repulsor.heads import make_head
from genmem_repulsor.sphere import uniform_floor

if TYPE_CHECKING:
    from genmem_repulsor import RepulsorConfig


class Repulsor(nn.Module):
    """L = w_bank · L_bank + w_batch · L_batch on unit features q = head(pool(hidden)).

    Both terms are the mean over queries of log mean_j exp(q·k_j / τ), so both lie between the same
    floor (features uniform on the sphere) and 1/τ (all features equal), whatever the number of
    negatives.
    """

    def __init__(self, config: RepulsorConfig, facts: Facts) -> None:
        """Build the head for the recipe's memory."""
        super().__init__()
        self.config = config
        (self.tap,) = config.taps(max(facts.tap_widths))
        width = facts.memory_widths[config.memory]
        self.head = make_head(config.head, facts.tap_widths[self.tap], width, config.seed)
        self.floor = uniform_floor(width, config.temperature)
        # A frozen memory is full from the start.
        self.fewest = max(1, config.min_fill * facts.batch if config.enqueue else 1)

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch; in training its features are set aside for the memory.

        Raises:
            ValueError: A micro-batch that is not whole groups, or a memory that can never be filled
                as far as `min_fill` asks.
        """
        c = self.config
        memory, ids_B = step.memories[c.memory], step.batch.index_B
        q_BE = self.queries(step.prediction.hidden[self.tap])
        bank = self._repel_from_memory(q_BE, memory, ids_B)
        batch = repel_within(self._groups(q_BE), c.temperature)
        if self.training and c.enqueue:
            memory.stage(q_BE.detach(), ids_B)
        value = c.w_bank * bank.value + c.w_batch * batch
        return Objective(value, self._metrics(bank, batch, q_BE))

    def queries(self, hidden_BLD: Tensor) -> Tensor:
        """Unit features (B, E) in fp32: tokens are averaged, projected and normalised."""
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            projected_BE = self.head(hidden_BLD.float().mean(1))
            return F.normalize(projected_BE, dim=1, eps=1e-6)

    def _repel_from_memory(self, q_BE: Tensor, memory: MemoryStore, ids_B: Tensor) -> _Bank:
        """L_bank = mean_i (lse_i - log count_i), over the queries that see enough negatives.

        Below `min_fill` it is 0 with gradient 0, but still depends on q: no parameter is unused.
        """
        if memory.num_rows < self.fewest:
            raise ValueError(
                f"memory {self.config.memory!r} has room for {memory.num_rows} rows, but its term waits for "
                f"min_fill = {self.config.min_fill} global batches, {self.fewest} rows; "
                "give the memory more rows, or lower min_fill"
            )
        lse_B, count_B = memory.attend(q_BE, 1 / self.config.temperature, ids_B)
        ready_B = (count_B >= self.fewest).float()
        loss_B = lse_B - count_B.clamp(min=1.0).log()
        return _Bank((ready_B * loss_B).mean(), ready_B.mean())

    def _groups(self, q_BE: Tensor) -> Tensor:
        """(G, N, E): the groups of this micro-batch; all ranks' features for "global"."""
        group = self.config.group
        if group == "global":
            return gather_with_gradient(q_BE)[None]
        if len(q_BE) % group:
            raise ValueError(
                f"a micro-batch of {len(q_BE)} is not whole groups of {group}; "
                f"take a multiple of {group} samples on every process"
            )
        return q_BE.view(-1, group, q_BE.shape[1])

    def _metrics(self, bank: _Bank, batch: Tensor, q_BE: Tensor) -> dict[str, Tensor]:
        """L_bank below its floor is the sign of a collective chase (README.md)."""
        value = bank.value.detach()
        return {
            "bank": value,
            "batch": batch.detach(),
            "floor": torch.full_like(value, self.floor),
            "gap": value - self.floor * bank.ready,
            "ready": bank.ready,
            "mean_query": q_BE.detach().mean(0).norm(),
        }


class _Bank(NamedTuple):
    value: Tensor
    ready: Tensor
    """Share of the queries that saw enough negatives."""


def repel_within(q_GNE: Tensor, temperature: float) -> Tensor:
    """L_batch = mean_i log 1/(N-1) Σ_{j≠i} exp(q_i·q_j / τ) within groups; gradient to both sides.

    A sample is left out of its own sum. Its term would be exp(1/τ) = 148 at τ = 0.2, more than the
    others together, and has no gradient on the sphere; and unit features cannot run away, which is
    what the diagonal prevents elsewhere. So this is the same functional as the memory's term.
    """
    count = q_GNE.shape[1]
    with torch.autocast(q_GNE.device.type, enabled=False):
        logits_GNN = q_GNE @ q_GNE.mT / temperature
    own = torch.eye(count, dtype=torch.bool, device=q_GNE.device)
    return (logits_GNN.masked_fill(own, -torch.inf).logsumexp(-1) - math.log(count - 1)).mean()
