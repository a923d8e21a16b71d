"""Reading manifest.json strictly: whatever is wrong is named with its file and key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genmem.contracts import LatentSpec
from genmem.data.errors import DataError
from genmem.data.format.json_table import JsonTable
from genmem.data.format.manifest import FORMAT, MANIFEST, Component, Feature, FittedEncoder, Manifest, Shard

DESCRIPTION = "description.json"
"""In the set's folder: what its tars do not say of themselves."""

LARGEST = 1 << 28
"""Bytes of a manifest; a million shards have less."""

# A shard's name becomes a path: it must stay in the folder.
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA256_OR_NONE = re.compile(r"([0-9a-f]{64})?")
_DTYPE = re.compile(r"u?int(8|16|32|64)|float(16|32|64)")


def load_manifest(folder: Path) -> Manifest:
    """Read a split folder's manifest.

    Raises:
        DataError: A file that is missing or wrong; file and key are named.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{path}: missing; the set was never prepared, or not to its end; for tars that something "
            f"else wrote, put {DESCRIPTION} beside the split's folder (docs/data.md)"
        )
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; a manifest has at most {LARGEST}")
    table = JsonTable.load(path)
    version = table.count("format")
    if version != FORMAT:
        raise table.error("format", f"this genmem reads format {FORMAT}, found {version}")
    samples = table.count("samples")
    manifest = _read_manifest(table)
    table.close()
    if samples != manifest.samples:
        raise table.error("samples", f"{samples}, but its shards have {manifest.samples} in all")
    return manifest


def load_description(path: Path) -> dict[str, Any]:
    """Read what no tar says of itself: the manifest's keys that tell how a set was made.

    Raises:
        DataError: A file that is wrong; file and key are named.
    """
    table = JsonTable.load(path)
    description = _read_description(table)
    table.close()
    return description


def _read_description(table: JsonTable) -> dict[str, Any]:
    return {
        "picture_shape": _triple(table, "picture_shape"),
        "tokenizer": _read_component(table.table("tokenizer")),
        "latent": _read_latent(table.table("latent")),
        "class_names": table.texts("class_names"),
        "encoders": {name: _read_encoder(inner) for name, inner in table.table("encoders").items()},
        "source": _read_component(table.table("source")),
        "provenance": table.plain("provenance"),
    }


def _read_manifest(table: JsonTable) -> Manifest:
    manifest = Manifest(
        **_read_description(table),
        split=table.text("split"),
        views=table.count("views"),
        features={name: _read_feature(inner) for name, inner in table.table("features").items()},
        shards=tuple(_read_shard(inner) for inner in table.tables("shards")),
        index=_match(table, "index", _SHA256, "a sha256 in hex"),
    )
    _check_manifest(table, manifest)
    return manifest


def _check_manifest(table: JsonTable, manifest: Manifest) -> None:
    if manifest.views not in (1, 2):
        raise table.error("views", f"expected 1 or 2, found {manifest.views}")
    for name, feature in manifest.features.items():
        if feature.encoder not in manifest.encoders:
            raise table.error(f"features.{name}.encoder", f"no encoder is named {feature.encoder!r}")
    seen: set[str] = set()
    for i, shard in enumerate(manifest.shards):
        if shard.name in seen:
            raise table.error(f"shards[{i}].name", f"{shard.name!r} is listed twice")
        seen.add(shard.name)


def _read_component(table: JsonTable) -> Component:
    component = Component(table.text("use"), table.plain("settings"))
    table.close()
    return component


def _read_latent(table: JsonTable) -> LatentSpec:
    spec = LatentSpec(
        tokenizer=table.text("tokenizer"),
        shape=_triple(table, "shape"),
        dtype=_dtype(table),
        scale=table.numbers("scale"),
        shift=table.numbers("shift"),
        moments=table.flag("moments"),
        weights=table.text("weights"),
    )
    for key, values in (("scale", spec.scale), ("shift", spec.shift)):
        if len(values) not in (1, spec.shape[0]):
            raise table.error(key, f"expected 1 or {spec.shape[0]} numbers, found {len(values)}")
    table.close()
    return spec


def _read_encoder(table: JsonTable) -> FittedEncoder:
    encoder = FittedEncoder(
        use=table.text("use"),
        settings=table.plain("settings"),
        state=_match(table, "state", _SHA256_OR_NONE, "a sha256 in hex, or nothing"),
    )
    table.close()
    return encoder


def _read_feature(table: JsonTable) -> Feature:
    feature = Feature(dtype=_dtype(table), shape=table.counts("shape"), encoder=table.text("encoder"))
    table.close()
    return feature


def _read_shard(table: JsonTable) -> Shard:
    shard = Shard(
        name=_match(table, "name", _SHARD_NAME, "a plain file name that ends in .tar"),
        samples=table.count("samples"),
        bytes=table.count("bytes"),
        sha256=_match(table, "sha256", _SHA256, "a sha256 in hex"),
        fields=table.texts("fields"),
    )
    table.close()
    return shard


def _match(table: JsonTable, key: str, pattern: re.Pattern[str], expected: str) -> str:
    value = table.text(key)
    if not pattern.fullmatch(value):
        raise table.error(key, f"expected {expected}, found {value!r}")
    return value


def _dtype(table: JsonTable) -> str:
    return _match(table, "dtype", _DTYPE, "a NumPy number type such as float16")


def _triple(table: JsonTable, key: str) -> tuple[int, int, int]:
    values = table.counts(key)
    if len(values) != 3 or 0 in values:
        raise table.error(key, f"expected three sizes above 0, found {list(values)}")
    return values[0], values[1], values[2]
