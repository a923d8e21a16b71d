"""The shipped recipes at a glance: size of the network, published score, description. No torch.

Only what the size follows from is read of each recipe, and each network is worked out once.
"""

# `seat` makes an attrs field, which is no shared default:
# ruff: noqa: RUF009

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli

from genmem.contracts import (
    BackboneConfig,
    Count,
    EncoderConfig,
    Facts,
    InterpolantConfig,
    MemoryConfig,
    SourceConfig,
    TokenizerConfig,
)
from genmem.host import Catalog
from genmem.recipe.data_table import ExpectTable
from genmem.recipe.reading import OWN, merge
from genmem.recipe.seats import Seat, seat, seats
from genmem.recipe.shipped import find_shipped, list_shipped
from genmem.recipe.structure import Reader
from genmem.recipe.tables import ConditionTable

SIZING = ("backbone", "interpolant", "condition", "memory")
HOLDING = ("source", "tokenizer", "encoder")


@attrs.frozen(kw_only=True)
class Entry:
    """One shipped recipe."""

    description: str
    count: Count | None
    """Parameters and MACs; None where neither the recipe nor its source says what the data hold."""

    published: Mapping[str, Any]
    """Its `[published]` tables, as they stand in the file."""

    @property
    def score(self) -> str:
        """The first published score, in words."""
        scores = [one for one in self.published.values() if one["metric"] not in ("parameters", "macs")]
        return f"{scores[0]['metric'].upper()} {scores[0]['value']:g}" if scores else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        count = self.count
        return {
            "description": self.description,
            "parameters": None if count is None else count.parameters,
            "macs": None if count is None else count.macs,
            "published": dict(self.published),
        }


@attrs.frozen(kw_only=True)
class _Sized:
    """The tables that the size of a network follows from."""

    expect: ExpectTable
    backbone: Seat[BackboneConfig] = seat("backbone")
    interpolant: Seat[InterpolantConfig] = seat("interpolant")
    condition: ConditionTable = ConditionTable()
    memory: Mapping[str, Seat[MemoryConfig]] = seats("memory")


@attrs.frozen(kw_only=True)
class _Held:
    """The tables that say what a set will hold."""

    source: Seat[SourceConfig] = seat("source")
    tokenizer: Seat[TokenizerConfig] = seat("tokenizer")
    encoder: Mapping[str, Seat[EncoderConfig]] = seats("encoder")


def overview(catalog: Catalog) -> dict[str, Entry]:
    """{name: what is worth knowing of it} of every shipped recipe."""
    files: dict[Path, dict[str, Any]] = {}
    counts: dict[str, Count | None] = {}
    found = {}
    for name, file in list_shipped().items():
        raw = _joined(file, files)
        sizing = {key: raw[key] for key in SIZING if key in raw}
        data = {key: raw["data"][key] for key in HOLDING if key in raw["data"]}
        expect, views = raw["data"].get("expect"), raw["data"].get("views", 1)
        key = json.dumps([sizing, expect or data, views], sort_keys=True, default=str)
        if key not in counts:
            expect = expect or expectation(catalog, data)
            counts[key] = None if expect is None else count(catalog, {**sizing, "expect": expect}, views)
        found[name] = Entry(
            description=str(raw.get("description", "")), count=counts[key], published=raw.get("published", {})
        )
    return found


def expectation(catalog: Catalog, raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """[data.expect] as source, tokenizer and encoders say it, unbuilt; None where one of them cannot."""
    reader = Reader(catalog)
    held = reader.read(_Held, raw)
    if reader.faults or not isinstance(held, _Held):
        return None
    extent = held.source.config.extent()
    sample_shape = None if extent is None else held.tokenizer.config.sample_shape(extent.picture_shape)
    if extent is None or sample_shape is None:
        return None
    widths = {name: one.config.pooled_width for name, one in held.encoder.items()}
    return {
        "sample_shape": list(sample_shape),
        "num_classes": extent.num_classes,
        "num_samples": extent.num_samples,
        "features": {name: width for name, width in widths.items() if width is not None},
    }


def count(catalog: Catalog, raw: Mapping[str, Any], views: int) -> Count | None:
    """Parameters and MACs by these tables; None where they are faulty or the backbone does not say."""
    reader = Reader(catalog)
    sized = reader.read(_Sized, raw)
    if reader.faults or not isinstance(sized, _Sized):
        return None
    facts = facts_of(sized, views)
    backbone: BackboneConfig = sized.backbone.config
    return backbone.count(facts)


def facts_of(sized: _Sized, views: int) -> Facts:
    """What the network is built for."""
    expect, interpolant = sized.expect, sized.interpolant.config
    facts = Facts(
        sample_shape=expect.sample_shape,
        output_channels=interpolant.output_channels(expect.sample_shape[0]),
        predicts_velocity=interpolant.predicts_velocity,
        num_classes=expect.num_classes if sized.condition.label else 0,
        num_samples=expect.num_samples,
        views=views,
        feature_widths=expect.features,
    )
    memory = sized.condition.memory
    extent = sized.memory[memory].config.extent(facts) if memory and memory in sized.memory else None
    return attrs.evolve(facts, condition_width=extent.width if extent else 0)


def _joined(file: Path, files: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """The raw tables of a recipe over those it extends, each file read once."""
    file = file.resolve()
    if file not in files:
        raw = tomli.loads(file.read_text(encoding="utf-8"))
        if isinstance(under := raw.pop("extends", None), str):
            beside = file.parent / under
            base = beside if beside.is_file() else find_shipped(under)
            below = _joined(base, files) if base else {}
            raw = merge({key: value for key, value in below.items() if key not in OWN}, raw, (), {})
        files[file] = raw
    return files[file]
