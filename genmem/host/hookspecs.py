"""Every hook a plugin may implement: one for each kind of component, and one for commands.

A hook takes nothing, returns a mapping. Examples begin: `import attrs`, `from genmem import hookimpl`.
"""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from genmem.contracts import (
        BackboneConfig,
        EncoderConfig,
        FormatConfig,
        GuidanceConfig,
        InterpolantConfig,
        MemoryConfig,
        ObjectiveConfig,
        SamplerConfig,
        SourceConfig,
        TokenizerConfig,
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


@hookspec
def genmem_sources() -> Mapping[str, type[SourceConfig]]:
    """Places pictures come from, for `[data.source]`.

    Example:
        from genmem.contracts import SourceConfig
        @attrs.frozen(kw_only=True)
        class ScansConfig(SourceConfig):
            "Every PNG of a folder."
            folder: str
            def build(self):
                from genmem_scans.reader import Scans
                return Scans(self.folder)
        @hookimpl
        def genmem_sources():
            return {"scans": ScansConfig}
    """


@hookspec
def genmem_tokenizers() -> Mapping[str, type[TokenizerConfig]]:
    """Ways between pictures and samples, for `[data.tokenizer]`.

    Example:
        from genmem.contracts import TokenizerConfig
        @attrs.frozen(kw_only=True)
        class HalvesConfig(TokenizerConfig):
            "Pictures at half the resolution."
            def build(self):
                from genmem_halves.tokenizer import Halves
                return Halves()
        @hookimpl
        def genmem_tokenizers():
            return {"halves": HalvesConfig}
    """


@hookspec
def genmem_encoders() -> Mapping[str, type[EncoderConfig]]:
    """Features of pictures, for `[data.encoder.NAME]` and `[evaluate.encoder.NAME]`.

    Example:
        from genmem.contracts import EncoderConfig
        @attrs.frozen(kw_only=True)
        class HistogramConfig(EncoderConfig):
            "How often each grey value occurs."
            bins: int = 16
            def build(self):
                from genmem_histogram.encoder import Histogram
                return Histogram(self.bins)
        @hookimpl
        def genmem_encoders():
            return {"histogram": HistogramConfig}
    """


@hookspec
def genmem_formats() -> Mapping[str, type[FormatConfig]]:
    """Layouts of published weights, for `genmem checkpoint import FILE OUT --layout NAME`.

    Example:
        from genmem.contracts import FormatConfig
        @attrs.frozen(kw_only=True)
        class OldNamesConfig(FormatConfig):
            "Weights under the names of their first release."
            weights_time = "data1"
            def build(self):
                from genmem_plain.names import OldNames
                return OldNames()
        @hookimpl
        def genmem_formats():
            return {"plain-v1": OldNamesConfig}
    """


@hookspec
def genmem_commands() -> Mapping[str, click.Command]:
    """Commands of the command line: `genmem NAME …`.

    Example:
        import click
        @click.command()
        @click.argument("run")
        def gallery(run: str) -> None:
            "Write a page with the pictures of a run."
            from genmem_gallery.page import write
            write(run)
        @hookimpl
        def genmem_commands():
            return {"gallery": gallery}
    """
