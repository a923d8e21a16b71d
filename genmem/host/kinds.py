"""The kinds of component, and the hook and the contract of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from genmem.contracts import (
    BackboneConfig,
    EncoderConfig,
    FormatConfig,
    GuidanceConfig,
    InterpolantConfig,
    MemoryConfig,
    NotifierConfig,
    ObjectiveConfig,
    SamplerConfig,
    SourceConfig,
    TokenizerConfig,
)


@attrs.frozen
class Kind:
    """One kind of component."""

    name: str
    """As a field of `genmem.recipe.tables` names it: "backbone", "memory", …"""

    hook: str
    """The hook that collects it."""

    contract: type
    """Class that every config of this kind subclasses."""

    plural: str
    """For sentences."""

    reserved: frozenset[str] = frozenset({"use"})
    """Keys of its table that are core's, so that no config may have a field of the name."""


IN_OBJECTIVE_TABLE = frozenset({"use", "weight", "start", "ramp", "stop"})

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("backbone", "genmem_backbones", BackboneConfig, "backbones"),
            Kind("interpolant", "genmem_interpolants", InterpolantConfig, "interpolants"),
            Kind("objective", "genmem_objectives", ObjectiveConfig, "objectives", IN_OBJECTIVE_TABLE),
            Kind("memory", "genmem_memories", MemoryConfig, "memories"),
            Kind("sampler", "genmem_samplers", SamplerConfig, "samplers"),
            Kind("guidance", "genmem_guidances", GuidanceConfig, "guidances"),
            Kind("source", "genmem_sources", SourceConfig, "sources"),
            Kind("tokenizer", "genmem_tokenizers", TokenizerConfig, "tokenizers"),
            Kind("encoder", "genmem_encoders", EncoderConfig, "encoders"),
            Kind("format", "genmem_formats", FormatConfig, "formats"),
            Kind("notifier", "genmem_notifiers", NotifierConfig, "notifiers"),
        )
    }
)
"""Every kind, in the order they are listed."""

COMMANDS_HOOK = "genmem_commands"

OWN_COMMANDS = frozenset(
    {
        "train",
        "sample",
        "evaluate",
        "compare",
        "profile",
        "checkpoint",
        "plugins",
        "check",
        "recipe",
        "sweep",
        "data",
    }
)
"""Commands of the core, which no plugin may take over."""
