"""What the network is told: label and memory row, in training and in sampling.

Shapes: B batch, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from genmem.contracts import Batch, Conditioning, MemoryStore
from genmem.draws import Draws

if TYPE_CHECKING:
    from genmem.data.dataset import Dataset
    from genmem.recipe.tables import ConditionTable


def rows_are_of(store: MemoryStore, dataset: Dataset) -> bool:
    """Whether the store's rows came from this very set, so that its sample numbers mean something."""
    return bool(store.describe().get("data") == dataset.fingerprint())


class Conditioner:
    """What the network is told: label and memory row, dropped per sample for guidance."""

    def __init__(self, table: ConditionTable, memories: Mapping[str, MemoryStore]) -> None:
        """As the recipe's `[condition]` says."""
        self.table = table
        self.store = memories[table.memory] if table.memory else None

    def train(self, batch: Batch, draws: Draws) -> Conditioning:
        """For a training batch: the samples' own rows, masked by the store; drops drawn by core."""
        memory_BKE = None
        if self.store is not None and self.table.memory is not None:
            memory_BKE = self.store.read(batch, batch.fetched.get(self.table.memory), draws)
        drop_B = draws.uniform("drop") < self.table.drop if self.table.drop else None
        return self._of(batch.label_B, memory_BKE, drop_B)

    def held_out(self, batch: Batch) -> Conditioning:
        """For samples outside the store: rows from their features; nothing masked or dropped."""
        return self._of(batch.label_B, self.store.encode(batch) if self.store else None, None)

    def generate(self, label_B: Tensor | None, memory_BKE: Tensor | None) -> Conditioning:
        """For sampling."""
        return self._of(label_B, memory_BKE, None)

    def _of(self, label_B: Tensor | None, memory: Tensor | None, drop_B: Tensor | None) -> Conditioning:
        return Conditioning(label_B if self.table.label else None, memory, drop_B)
