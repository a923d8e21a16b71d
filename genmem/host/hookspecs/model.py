"""The parts of a model and of a sample: one hook for each kind."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from genmem.contracts import (
        BackboneConfig,
        GuidanceConfig,
        InterpolantConfig,
        MemoryConfig,
        ObjectiveConfig,
        SamplerConfig,
    )

hookspec = pluggy.HookspecMarker("genmem")


@hookspec
def genmem_backbones() -> Mapping[str, type[BackboneConfig]]:
    """Networks, for `[backbone]`.

    Example:
        from genmem.contracts import BackboneConfig, Facts
        @attrs.frozen(kw_only=True)
        class PlainConfig(BackboneConfig):
            "A stack of convolutions."
            depth: int = 8
            width: int = 64
            @property
            def tap_widths(self):
                return {k: self.width for k in range(1, self.depth + 1)}
            @property
            def consumes(self):
                return frozenset({"label"})
            def build(self, facts: Facts):
                from genmem_plain.network import Plain
                return Plain(self, facts.sample_shape, facts.output_channels, facts.num_classes)
        @hookimpl
        def genmem_backbones():
            return {"plain": PlainConfig}
    """


@hookspec
def genmem_interpolants() -> Mapping[str, type[InterpolantConfig]]:
    """Noise processes and the regression that learns them, for `[interpolant]`.

    Example:
        from genmem.contracts import InterpolantConfig
        @attrs.frozen(kw_only=True)
        class QuarterConfig(InterpolantConfig):
            "x_t = cos(πt/2)·x + sin(πt/2)·ε."
            def build(self):
                from genmem_quarter.path import Quarter  # ten lines over genmem.paths.AffinePath
                return Quarter()
        @hookimpl
        def genmem_interpolants():
            return {"quarter": QuarterConfig}
    """


@hookspec
def genmem_objectives() -> Mapping[str, type[ObjectiveConfig]]:
    """Losses beside the denoising loss, for `[objective.NAME]`.

    `weight`, `start`, `ramp` and `stop` are core's: a config has no fields of these names.

    Example:
        from genmem.contracts import Facts, TappedConfig
        @attrs.frozen(kw_only=True)
        class SmallConfig(TappedConfig):
            "Mean square of a hidden state."
            power: float = 2.0
            def build(self, facts: Facts):
                from genmem_small.loss import Small
                return Small(self)
        @hookimpl
        def genmem_objectives():
            return {"small": SmallConfig}
    """


@hookspec
def genmem_memories() -> Mapping[str, type[MemoryConfig]]:
    """Stores of rows outside the network, for `[memory.NAME]`.

    Example:
        from genmem.contracts import Facts, MemoryConfig
        @attrs.frozen(kw_only=True)
        class RingConfig(MemoryConfig):
            "The latest rows, first in, first out."
            abilities = frozenset({"attend", "write"})
            rows: int = 4096
            width: int = 32
            def build(self, facts: Facts):
                from genmem_ring.store import Ring
                return Ring(self.rows, self.width)
        @hookimpl
        def genmem_memories():
            return {"ring": RingConfig}
    """


@hookspec
def genmem_samplers() -> Mapping[str, type[SamplerConfig]]:
    """Ways from noise to a sample, for `[sampler]`.

    Example:
        from genmem.contracts import SamplerConfig
        @attrs.frozen(kw_only=True)
        class MidpointConfig(SamplerConfig):
            "The midpoint rule on an even grid."
            steps: int = 25
            @property
            def evaluations(self):
                return 2 * self.steps
            def build(self):
                from genmem_midpoint.rule import Midpoint
                return Midpoint(self.steps)
        @hookimpl
        def genmem_samplers():
            return {"midpoint": MidpointConfig}
    """


@hookspec
def genmem_guidances() -> Mapping[str, type[GuidanceConfig]]:
    """Ways to make one output of a conditional and an unconditional one, for `[guidance]`.

    Example:
        from genmem.contracts import GuidanceConfig
        @attrs.frozen(kw_only=True)
        class ScaledConfig(GuidanceConfig):
            "u + scale · (c - u), everywhere."
            scale: float = 1.5
            def build(self):
                from genmem_scaled.rule import Scaled
                return Scaled(self.scale)
        @hookimpl
        def genmem_guidances():
            return {"scaled": ScaledConfig}
    """
