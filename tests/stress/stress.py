"""One thin slice of each hard case a contract must carry, as an un-packaged plugin."""

from __future__ import annotations

from typing import ClassVar

import attrs

from genmem import hookimpl
from genmem.contracts import (
    Ability,
    BackboneConfig,
    Facts,
    InterpolantConfig,
    MemoryConfig,
    ObjectiveConfig,
    TappedConfig,
)


@attrs.frozen(kw_only=True)
class AverageVelocityConfig(InterpolantConfig):
    """MeanFlow's two times and Jacobian-vector product."""

    @property
    def consumes(self) -> frozenset[str]:
        return frozenset({"span"})

    def build(self):
        from stress_parts import AverageVelocity

        return AverageVelocity()


@attrs.frozen(kw_only=True)
class LearnedVarianceConfig(InterpolantConfig):
    """DDPM's second set of channels, trained by a term that does not touch the first."""

    def output_channels(self, channels: int) -> int:
        return 2 * channels

    def build(self):
        from stress_parts import LearnedVariance

        return LearnedVariance()


@attrs.frozen(kw_only=True)
class ShardedConfig(MemoryConfig):
    """A queue whose rank r keeps every world-th row."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "write"})

    rows: int = 64
    width: int = 8

    def build(self, facts: Facts):
        from stress_parts import Sharded

        return Sharded(self.rows, self.width)


@attrs.frozen(kw_only=True)
class SecondViewConfig(TappedConfig):
    """A further forward of the same samples at other noise."""

    def build(self, facts: Facts):
        from stress_parts import SecondView

        return SecondView(self.taps(max(facts.tap_widths))[0])


@attrs.frozen(kw_only=True)
class TeacherConfig(TappedConfig):
    """An EMA teacher at a cleaner time, stopped at the tapped block."""

    weights: str = "ema"

    def build(self, facts: Facts):
        from stress_parts import Teacher

        return Teacher(self.taps(max(facts.tap_widths))[0], self.weights)


@attrs.frozen(kw_only=True)
class TwoMemoriesConfig(TappedConfig):
    """Attends to one memory and writes into it, and looks up neighbours in another."""

    writes: str
    reads: str

    @property
    def needs(self):
        return {self.writes: frozenset({"attend", "write"}), self.reads: frozenset({"nearest"})}

    def build(self, facts: Facts):
        from stress_parts import TwoMemories

        (tap,) = self.taps(max(facts.tap_widths))
        widths = facts.memory_widths
        return TwoMemories(self, tap, facts.tap_widths[tap], widths[self.writes], widths[self.reads])


@attrs.frozen(kw_only=True)
class PoisonConfig(ObjectiveConfig):
    """Turns the loss into NaN for some samples of the training set, or for ever on one process."""

    sample: int = 3
    others: tuple[int, ...] = ()
    rank: int | None = None
    since: int = 0
    """Images seen from which that process has nothing but NaN."""
    loss_alone: bool = False
    """Whether the gradients are finite nevertheless: no sum over processes shows it."""

    def build(self, facts: Facts):
        from stress_parts import Poison

        return Poison(self)


@attrs.frozen(kw_only=True)
class TableConfig(BackboneConfig):
    """No transformer at all: one table per patch of the time axis. Shows what core assumes."""

    width: int = 8

    @property
    def tap_widths(self):
        return {1: self.width}

    @property
    def consumes(self) -> frozenset[str]:
        return frozenset({"memory"})

    def build(self, facts: Facts):
        from stress_parts import PixelMixer

        return PixelMixer(facts, self.width)


@hookimpl
def genmem_backbones():
    return {"pixel-mixer": TableConfig}


@hookimpl
def genmem_interpolants():
    return {"average-velocity": AverageVelocityConfig, "learned-variance": LearnedVarianceConfig}


@hookimpl
def genmem_memories():
    return {"sharded": ShardedConfig}


@hookimpl
def genmem_objectives():
    return {
        "second-view": SecondViewConfig,
        "teacher": TeacherConfig,
        "two-memories": TwoMemoriesConfig,
        "poison": PoisonConfig,
    }
