"""The memory and the objective.

Shapes: B batch, N rows written, R slots, L tokens, D width of the backbone, E of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genmem.attention import Chunk, log_sum_exp
from genmem.collectives import gather
from genmem.contracts import Ability, Attended, Hide, MemoryStore, Metric, Objective, Step, Tags


class Slots(MemoryStore):
    """One row for each sample number modulo R."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "write"})

    def __init__(self, rows: int, width: int) -> None:
        """Empty slots."""
        self.rows_RE = torch.zeros(rows, width)
        self.ids_R = torch.full((rows,), -1)
        self._staged: list[tuple[Tensor, Tensor]] = []

    @property
    def width(self) -> int:
        """E."""
        return self.rows_RE.shape[1]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.rows_RE.shape[0]

    def to(self, device: torch.device) -> None:
        """Move the slots."""
        self.rows_RE, self.ids_R = self.rows_RE.to(device), self.ids_R.to(device)

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """Over the slots in use."""
        return log_sum_exp(q_BE, [Chunk(self.rows_RE, self.ids_R, self.ids_R >= 0)], scale, hide, metric)

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
        """Keep a copy until the step is over."""
        self._staged.append((rows_BE.detach().float().clone(), tags.ids_B.clone()))

    def commit(self, keep: Tensor) -> None:
        """Write the rows of all ranks into their slots, if the step is kept."""
        row_NE = gather(torch.cat([self.rows_RE[:0], *(rows for rows, _ in self._staged)]))
        id_N = gather(torch.cat([self.ids_R[:0], *(ids for _, ids in self._staged)]))
        self.discard()
        slot_N = id_N % self.num_rows
        self.rows_RE[slot_N] = torch.where(keep, row_NE, self.rows_RE[slot_N])
        self.ids_R[slot_N] = torch.where(keep, id_N, self.ids_R[slot_N])

    def discard(self) -> None:
        """Forget what was staged."""
        self._staged = []

    def state(self) -> dict[str, Tensor]:
        """Rows in use and their sample numbers."""
        used_R = self.ids_R >= 0
        return {"rows": self.rows_RE[used_R], "ids": self.ids_R[used_R]}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up rows, whatever the number of slots they came from."""
        if state["rows"].shape[1] != self.width:
            raise ValueError(f"rows of width {state['rows'].shape[1]} do not fit slots of {self.width}")
        self.ids_R.fill_(-1)
        slot_N = state["ids"].to(self.ids_R) % self.num_rows
        self.rows_RE[slot_N] = state["rows"].to(self.rows_RE)
        self.ids_R[slot_N] = state["ids"].to(self.ids_R)


class Apart(nn.Module):
    """mean of log-mean-exp(scale · cos(h, row)) over the rows of other samples."""

    def __init__(self, tap: int, width: int, memory: str, memory_width: int, scale: float) -> None:
        """A linear head from the tap's width to the memory's."""
        super().__init__()
        self.tap, self.memory, self.scale = tap, memory, scale
        self.head = nn.Linear(width, memory_width)

    def forward(self, step: Step, /) -> Objective:
        """The value, in fp32; the batch's rows are staged for later steps."""
        memory = step.memories[self.memory]
        pooled_BD = step.prediction.hidden[self.tap].float().mean(1)
        row_BE = F.normalize(self.head(pooled_BD), dim=1)
        found = memory.attend(row_BE, self.scale, Hide(step.batch.index_B))
        memory.stage(row_BE, Tags(step.batch.index_B))
        value = (found.lse_B - found.count_B.clamp(min=1).log()).mean()
        return Objective(value, {"others": found.count_B.mean()})
