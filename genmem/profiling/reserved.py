"""Memories without their rows: what they will be, for building and counting everything else.

Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from genmem.building import Builder
from genmem.contracts import (
    Ability,
    Attended,
    Batch,
    Extent,
    Facts,
    Hide,
    MemoryConfig,
    MemoryStore,
    Metric,
    Tags,
)
from genmem.draws import Draws


class Reserved(MemoryStore):
    """Room for rows; reading gives zeros, attending costs what it will cost."""

    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {"condition", "attend", "nearest", "write", "labels", "times"}
    )

    def __init__(self, extent: Extent) -> None:
        """As large as `extent` says; nothing is allocated."""
        self.extent = extent

    @property
    def width(self) -> int:
        """E."""
        return self.extent.width

    @property
    def num_rows(self) -> int:
        """Rows it will hold."""
        return self.extent.rows

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def num_bytes(self) -> int:
        """Bytes its rows will occupy."""
        return self.extent.num_bytes

    def read(self, batch: Batch, fetched: Tensor | None, draws: Draws | None) -> Tensor:
        """(B, 1, E) of zeros."""
        return batch.x.new_zeros(len(batch.x), 1, self.width, dtype=torch.float32)

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """One pass over N rows: the products with the queries, and those with the rows as values."""
        lse_B, count_B = _Pass.apply(q_BE, self.num_rows)  # type: ignore[no-untyped-call]
        return Attended(lse_B, count_B)

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
        """Forgets them."""


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BE: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        keys_NE = q_BE.new_zeros(1, q_BE.shape[1]).expand(rows, -1)
        gradient_BE = (q_BE @ keys_NE.T) @ keys_NE
        count_B = q_BE.new_full((len(q_BE),), float(rows))
        ctx.save_for_backward(gradient_BE)
        ctx.mark_non_differentiable(count_B)
        return gradient_BE.sum(1), count_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor, _: Tensor) -> tuple[Tensor, None]:
        return grad_B[:, None] * ctx.saved_tensors[0], None


def reserve(builder: Builder, world: int = 1) -> dict[str, Reserved]:
    """Every memory of a recipe, as large as its settings say; built where only that tells."""
    facts = builder.facts({})
    seats = builder.recipe.memory.items()
    return {name: Reserved(_extent(seat.config, facts, world)) for name, seat in seats}


def _extent(config: MemoryConfig, facts: Facts, world: int) -> Extent:
    extent = config.extent(facts, world)
    if extent is not None:
        return extent
    store = config.build(facts)
    size = store.num_bytes()
    return Extent(store.width, store.num_rows, size, size)
