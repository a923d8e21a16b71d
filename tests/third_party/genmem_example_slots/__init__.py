"""Settings and hooks of the example: an objective and a memory from outside genmem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from genmem import hookimpl
from genmem.contracts import Ability, Facts, MemoryConfig, MemoryStore, ObjectiveConfig, TappedConfig

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class SlotsConfig(MemoryConfig):
    """The latest row of each sample, in the slot of its number."""

    abilities = frozenset({"attend", "write"})

    rows: int = attrs.field(default=1024, validator=attrs.validators.gt(0))
    """Slots; sample n has slot n modulo this."""

    width: int = 16
    """Numbers in a row."""

    def build(self, facts: Facts) -> MemoryStore:
        """The store, empty."""
        from genmem_example_slots.parts import Slots

        return Slots(self.rows, self.width)


@attrs.frozen(kw_only=True)
class ApartConfig(TappedConfig):
    """Keep the hidden state of a sample apart from those that a memory holds."""

    memory: str
    """The memory's name in the recipe."""

    scale: float = 4.0
    """Factor on the cosine."""

    @property
    def needs(self) -> Mapping[str, frozenset[Ability]]:
        """The memory, read and written."""
        return {self.memory: frozenset({"attend", "write"})}

    def build(self, facts: Facts) -> nn.Module:
        """The objective, with a head onto the memory's width."""
        from genmem_example_slots.parts import Apart

        (tap,) = self.taps(len(facts.tap_widths))
        return Apart(tap, facts.tap_widths[tap], self.memory, facts.memory_widths[self.memory], self.scale)


@hookimpl
def genmem_memories() -> dict[str, type[MemoryConfig]]:
    """The memory of this plugin."""
    return {"example-slots": SlotsConfig}


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objective of this plugin."""
    return {"example-apart": ApartConfig}
