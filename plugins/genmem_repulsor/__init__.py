"""Repulsor: repulsion from a queue of the network's own past features.

Memory `queue` and objective `repulsor`. What is the paper's and what is ours: README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Ability, Facts, MemoryConfig, ObjectiveConfig, TappedConfig

if TYPE_CHECKING:
    from torch import nn

    from genmem_repulsor.queue import Queue

_above_0 = attrs.validators.gt(0)
_count = attrs.validators.ge(0)
_weight = attrs.validators.ge(0.0)


@attrs.frozen(kw_only=True)
class QueueConfig(MemoryConfig):
    """The newest rows that training wrote, first in, first out."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write"})

    rows: int = attrs.field(validator=_above_0)
    """Room for so many; need not be a multiple of the batch."""

    width: int = attrs.field(validator=_above_0)
    """Width of a row."""

    dtype: Literal["bf16", "fp32"] = "bf16"
    """How rows are stored; products are fp32 either way."""

    def build(self, facts: Facts) -> Queue:
        """An empty queue."""
        from genmem_repulsor.queue import Queue

        return Queue(self.rows, self.width, self.dtype)


@attrs.frozen(kw_only=True)
class RepulsorConfig(TappedConfig):
    """Repulsion of pooled hidden states from a memory of past ones, and within the batch."""

    memory: str
    """The memory of negatives, by its name in the recipe."""

    enqueue: bool = True
    """Write this batch's features to the memory; false for one that is frozen."""

    temperature: float = attrs.field(default=0.2, validator=attrs.validators.gt(0.0))
    """τ of both terms."""

    w_batch: float = attrs.field(default=1.0, validator=_weight)
    """Weight of the in-batch term. Keep it at or above w_bank: the README says why."""

    w_bank: float = attrs.field(default=0.5, validator=_weight)
    """Weight of the memory's term."""

    group: int | Literal["global"] = 16
    """Consecutive samples of the global batch in one in-batch term, or "global" for all of it."""

    pool: Literal["mean"] = "mean"
    """How tokens become one vector."""

    head: Literal["mlp", "linear", "jl"] = "mlp"
    """From the hidden width to the memory's: LayerNorm and two layers, one layer, or a fixed
    random projection without parameters."""

    seed: int = attrs.field(default=0, validator=_count)
    """Of the random projection."""

    min_fill: int = attrs.field(default=4, validator=_count)
    """The memory's term counts from this many global batches in the memory on."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if isinstance(self.group, int) and self.group < 2:
            raise ValueError(
                f"group = {self.group}: a sample cannot repel itself; take 2 or more, "
                "or w_batch = 0 to repel from the memory alone"
            )
        if self.w_batch == self.w_bank == 0:
            raise ValueError("w_batch and w_bank are both 0, which leaves nothing; remove the objective")

    @property
    def needs(self) -> Mapping[str, frozenset[Ability]]:
        """It attends to the memory, and writes to it unless told not to."""
        return {self.memory: frozenset({"attend", "write"} if self.enqueue else {"attend"})}

    @property
    def coupling(self) -> int | Literal["global"]:
        """The in-batch term's group."""
        return self.group

    def build(self, facts: Facts) -> nn.Module:
        """The objective with its head.

        Raises:
            ValueError: A global batch that is not whole groups.
        """
        from genmem_repulsor.repulsor import Repulsor

        if isinstance(self.group, int) and facts.batch % self.group:
            raise ValueError(
                f"a global batch of {facts.batch} is not whole groups of {self.group}; "
                'take a `group` that divides it, or "global"'
            )
        return Repulsor(self, facts)


@hookimpl
def genmem_memories() -> dict[str, type[MemoryConfig]]:
    """The memories of this plugin."""
    return {"queue": QueueConfig}


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"repulsor": RepulsorConfig}
