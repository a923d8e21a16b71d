"""A catalog of made-up components, in memory: tests of the host and of recipes need no plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import (
    Ability,
    BackboneConfig,
    EncoderConfig,
    Facts,
    GuidanceConfig,
    InterpolantConfig,
    MemoryConfig,
    ObjectiveConfig,
    SamplerConfig,
    SourceConfig,
    TappedConfig,
    TokenizerConfig,
)
from genmem.host import Catalog, Loaded, Plugin
from genmem.host.offers import inspect_plugin
from genmem.recipe import Images
from genmem.recipe.limits import positive


@attrs.frozen(kw_only=True)
class GridConfig(BackboneConfig):
    """A backbone of a few blocks."""

    depth: int = attrs.field(default=4, validator=positive)
    """Blocks."""

    width: int = 8
    takes: tuple[str, ...] = ("label", "memory")

    @property
    def tap_widths(self) -> Mapping[int, int]:
        return dict.fromkeys(range(1, self.depth + 1), self.width)

    @property
    def consumes(self) -> frozenset[str]:
        return frozenset(self.takes)

    def build(self, facts: Facts) -> Any: ...


@attrs.frozen(kw_only=True)
class StraightConfig(InterpolantConfig):
    """A straight path."""

    two_times: bool = False

    @property
    def consumes(self) -> frozenset[str]:
        return frozenset({"span"}) if self.two_times else frozenset()

    def build(self) -> Any: ...


@attrs.frozen(kw_only=True)
class SpreadConfig(TappedConfig):
    """Spread hidden states."""

    form: Literal["near", "far"] = "near"
    group: int | Literal["global"] = 16
    temperature: float = attrs.field(default=0.5, validator=positive)
    range: tuple[float, float] = (0.0, 1.0)
    layers: tuple[int, ...] = ()

    @property
    def coupling(self) -> int | Literal["global"]:
        return self.group

    def build(self, facts: Facts) -> Any: ...


QUERIES = Images(0)


@attrs.frozen(kw_only=True)
class PushConfig(ObjectiveConfig):
    """Push away from a memory."""

    memory: str
    queries: Images = QUERIES

    @property
    def needs(self) -> Mapping[str, frozenset[Ability]]:
        return {self.memory: frozenset({"attend", "write"})}

    def build(self, facts: Facts) -> Any: ...


@attrs.frozen(kw_only=True)
class RingConfig(MemoryConfig):
    """The latest rows."""

    abilities = frozenset({"attend", "write"})

    rows: int

    def build(self, facts: Facts) -> Any: ...


@attrs.frozen(kw_only=True)
class ShelfConfig(MemoryConfig):
    """Rows of a feature."""

    abilities = frozenset({"condition", "nearest"})

    encoder: str = "raw"

    @property
    def features(self) -> frozenset[str]:
        return frozenset({self.encoder})

    def build(self, facts: Facts) -> Any: ...


@attrs.frozen(kw_only=True)
class WalkConfig(SamplerConfig):
    """Step by step."""

    steps: int = 10
    stop: float | None = 0.5

    @property
    def evaluations(self) -> int:
        return self.steps

    def build(self) -> Any: ...


@attrs.frozen(kw_only=True)
class LeanConfig(GuidanceConfig):
    """Lean on the unconditional network."""

    scale: float = 2.0

    def build(self) -> Any: ...


@attrs.frozen(kw_only=True)
class PensConfig(SourceConfig):
    """Pen strokes."""

    def build(self) -> Any: ...


@attrs.frozen(kw_only=True)
class PlainConfig(TokenizerConfig):
    """Pictures as they are."""

    def build(self) -> Any: ...


@attrs.frozen(kw_only=True)
class RawConfig(EncoderConfig):
    """Pixels."""

    width: int = 8

    def build(self) -> Any: ...


OFFERS: Mapping[str, Mapping[str, type]] = {
    "genmem_backbones": {"grid": GridConfig},
    "genmem_interpolants": {"straight": StraightConfig},
    "genmem_objectives": {"spread": SpreadConfig, "push": PushConfig},
    "genmem_memories": {"ring": RingConfig, "shelf": ShelfConfig},
    "genmem_samplers": {"walk": WalkConfig},
    "genmem_guidances": {"lean": LeanConfig},
    "genmem_sources": {"pens": PensConfig},
    "genmem_tokenizers": {"plain": PlainConfig},
    "genmem_encoders": {"raw": RawConfig},
}


RECIPE = (Path(__file__).parent / "good_recipe.toml").read_text(encoding="utf-8")
"""A recipe of these components that is right; bad ones are it with one thing changed."""


def plugin(name: str = "fake", distribution: str = "genmem-fake", version: str = "1.0") -> Plugin:
    """A record of a plugin."""
    return Plugin(name=name, module=f"genmem_{name}", distribution=distribution, version=version)


def loaded(offers: Mapping[str, Any], record: Plugin | None = None) -> Loaded:
    """A plugin that implements these hooks, as the host sees it."""
    hooks = {hook: hookimpl(lambda offer=offer: offer) for hook, offer in offers.items()}
    return inspect_plugin(record or plugin(), SimpleNamespace(**hooks))


def fake_catalog() -> Catalog:
    """One component of each kind, but two objectives and two memories."""
    return Catalog.of([loaded(OFFERS)])
