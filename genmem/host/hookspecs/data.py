"""Where pictures come from and what they become, and layouts of weights: one hook for each kind."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from genmem.contracts import (
        EncoderConfig,
        FormatConfig,
        SourceConfig,
        TokenizerConfig,
    )

hookspec = pluggy.HookspecMarker("genmem")


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
    """Features of pictures, for `[data.encoder.NAME]` and `[evaluate.encoder.NAME]`; or of text.

    What it builds may be a `ManyOutputs` too: it has logits or a spatial map for scores that ask for them.

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
