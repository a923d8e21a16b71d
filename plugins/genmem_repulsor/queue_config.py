"""Settings of the queue. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from genmem.contracts import Ability, Extent, Facts, MemoryConfig

if TYPE_CHECKING:
    from genmem_repulsor.queue import Queue

AUTO_BYTES = 64 * 2**20
"""Rows of more than this are shared out over processes where nothing else is said."""

ROW_BYTES = {"bf16": 2, "fp32": 4}
TAG_BYTES = 8 + 4 + 4
"""Of a row's sample number, class and time."""

_above_0 = attrs.validators.gt(0)


@attrs.frozen(kw_only=True)
class QueueConfig(MemoryConfig):
    """The newest rows that training wrote, first in, first out."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write", "labels", "times"})

    rows: int = attrs.field(validator=_above_0)
    """Room for so many; need not be a multiple of the batch."""

    width: int = attrs.field(validator=_above_0)
    """Width of a row."""

    dtype: Literal["bf16", "fp32"] = "bf16"
    """How rows are stored; products are fp32 either way."""

    max_age: int | None = attrs.field(default=None, validator=attrs.validators.optional(_above_0))
    """Rows count until so many newer ones were written (a row is an image): as a shorter queue
    would, but the older ones stay, for a later run that looks further back."""

    shard: bool | Literal["auto"] = "auto"
    """Every process holds all rows (false) or its share of them (true). "auto" shares out more than
    64 MiB of rows. What the queue holds, and every number it gives, is the same."""

    resume: Literal["restore", "refill"] = "restore"
    """What a resumed run does with the saved rows: take them up, or start empty."""

    def shared(self, world: int) -> bool:
        """Whether so many processes share the rows out."""
        large = self.rows * self.width * ROW_BYTES[self.dtype] > AUTO_BYTES
        return world > 1 and (large if self.shard == "auto" else self.shard)

    def extent(self, facts: Facts, world: int = 1) -> Extent:
        """Rows with their tags; a process holds all of them or its share, the first one the most, and one
        place more that takes what is not kept."""
        row = self.width * ROW_BYTES[self.dtype] + TAG_BYTES
        own = -(-self.rows // world) if self.shared(world) else self.rows
        num_rows = min(self.rows, self.max_age or self.rows)
        return Extent(self.width, num_rows, self.rows * row, (own + 1) * row)

    def build(self, facts: Facts) -> Queue:
        """An empty queue."""
        from genmem_repulsor.queue import Queue

        return Queue(
            self.rows,
            self.width,
            self.dtype,
            max_age=self.max_age,
            shard=self.shard,
            resume=self.resume,
            batch=facts.batch,
        )
