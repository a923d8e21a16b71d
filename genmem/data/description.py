"""What a prepared set is, for people and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genmem.contracts import Split
from genmem.data.dataset import SPLITS, Dataset
from genmem.data.format.inspection import record_size
from genmem.data.format.manifest import Manifest
from genmem.data.making.estimate import show_bytes
from genmem.data.streaming.cache import Cache
from genmem.data.streaming.order import permute_epoch
from genmem.data.streaming.remote import is_remote
from genmem.recipe.data_table import DataTable

_BATCH = 256


def open_set(path: str) -> Dataset:
    """The set in a folder or at a URL.

    Raises:
        DataError: What is missing, damaged or contradictory, by name.
    """
    defaults: Any = attrs.fields(DataTable)
    folder = Path(defaults.cache.default).expanduser()
    return Dataset(path, cache=Cache(folder, defaults.cache_bytes.default) if is_remote(path) else None)


def describe_set(dataset: Dataset) -> dict[str, Any]:
    """Everything about a set but its samples (JSON)."""
    manifest = dataset.manifest("train")
    fields = ["x", *manifest.features]
    return {
        "path": str(dataset.path),
        "samples": {split: dataset.count(split) for split in SPLITS},
        "bytes": {split: sum(s.bytes for s in dataset.manifest(split).shards) for split in SPLITS},
        "classes": len(dataset.class_names),
        "views": dataset.views,
        "picture_shape": list(dataset.picture_shape),
        "tokenizer": str(manifest.tokenizer),
        "latent": manifest.latent._asdict(),
        "fields": {
            name: {"dtype": form.dtype, "shape": list(form.shape), "bytes": record_size(form)}
            for name in fields
            for form in [manifest.form(name)]
        },
        "encoders": {
            name: {"is": str(e.component), "state": e.state} for name, e in manifest.encoders.items()
        },
        "source": str(manifest.source),
        "statistics": {split: dataset.manifest(split).provenance.get("statistics", {}) for split in SPLITS},
        "skipped": {split: dataset.manifest(split).provenance.get("skipped", []) for split in SPLITS},
        "provenance": manifest.provenance.get("source", {}),
        "fingerprint": dataset.fingerprint(),
    }


def show_set(dataset: Dataset) -> str:
    """The same in lines for a person."""
    found, manifest = describe_set(dataset), dataset.manifest("train")
    height, width, channels = dataset.picture_shape
    samples, size = found["samples"], sum(found["bytes"].values())
    rows = {
        "samples": f"{samples['train']:,} training, {samples['test']:,} held out, {show_bytes(size)}",
        "classes": f"{found['classes']:,}" if found["classes"] else "no labels",
        "views": "plain and mirrored" if dataset.views == 2 else "plain",
        "pictures": f"{height} x {width} x {channels}",
        "tokenizer": found["tokenizer"],
        "x": _show_latent(manifest),
        **{
            f"x of {split}": f"mean {_numbers(known['mean'])}, std {_numbers(known['std'])} a channel"
            for split, known in found["statistics"].items()
            if known
        },
        **{
            f"field {name}": f"{form['dtype']} {tuple(form['shape'])}, {form['bytes']:,} bytes"
            for name, form in found["fields"].items()
        },
        **{f"encoder {name}": e["is"] for name, e in found["encoders"].items()},
        "source": found["source"],
        "made from": json.dumps(found["provenance"], ensure_ascii=False),
        **{f"left out {split}": "; ".join(said) for split, said in found["skipped"].items() if said},
        "fingerprint": found["fingerprint"],
    }
    width = max(map(len, rows))
    return "\n".join([f"set {dataset.path}", *(f"  {name:<{width}}  {text}" for name, text in rows.items())])


def describe_order(dataset: Dataset, seed: int, window: int | None, lanes: int) -> dict[str, Any]:
    """Classes, shards, and how well epoch 0 is shuffled (JSON)."""
    splits: dict[str, Any] = {split: _describe_split(dataset, split) for split in SPLITS}
    return {"path": str(dataset.path), **splits, "shuffle": _describe_shuffle(dataset, seed, window, lanes)}


def _describe_split(dataset: Dataset, split: Split) -> dict[str, Any]:
    shards = dataset.manifest(split).shards
    label_N = dataset.labels(split)
    count_C = np.bincount(label_N[label_N >= 0], minlength=len(dataset.class_names))
    return {
        "samples": dataset.count(split),
        "classes": dict(zip(dataset.class_names, count_C.tolist(), strict=True)),
        "shards": len(shards),
        "samples_per_shard": [
            min((s.samples for s in shards), default=0),
            max((s.samples for s in shards), default=0),
        ],
        "bytes_per_shard": [
            min((s.bytes for s in shards), default=0),
            max((s.bytes for s in shards), default=0),
        ],
    }


def _describe_shuffle(dataset: Dataset, seed: int, window: int | None, lanes: int) -> dict[str, Any]:
    """How far apart samples land that are neighbours in manifest order.

    In an order drawn at random two samples are (N + 1) / 3 positions apart on average.
    """
    counts = dataset.shards("train").counts
    order_N = permute_epoch(seed, 0, counts, window=window, lanes=lanes)
    place_N = np.argsort(order_N)
    apart = float(np.abs(np.diff(place_N)).mean()) if len(place_N) > 1 else 0.0
    batch = min(_BATCH, len(order_N))
    shard_N = np.repeat(np.arange(len(counts)), counts)
    batches = order_N[: len(order_N) // batch * batch].reshape(-1, batch)
    mixed = float(np.mean([len(np.unique(shard_N[row])) for row in batches]))
    return {
        "window": window,
        "lanes": lanes,
        "apart": apart,
        "share_of_random": 3 * apart / (len(place_N) + 1),
        "batch": batch,
        "shards_in_a_batch": mixed,
    }


def show_order(found: dict[str, Any]) -> str:
    """The same in lines for a person."""
    lines = [f"set {found['path']}"]
    for split in SPLITS:
        known = found[split]
        lines.append(
            f"  {split:<6}{known['samples']:,} samples in {known['shards']:,} shards of "
            f"{_range(known['samples_per_shard'])} samples, {_range(known['bytes_per_shard'])} bytes"
        )
        sizes = known["classes"]
        if sizes:
            listed = ", ".join(f"{name} {count:,}" for name, count in sizes.items())
            low, high = min(sizes.values()), max(sizes.values())
            told = f": {listed}" if len(sizes) <= 20 else ""
            lines.append(f"        {len(sizes)} classes of {_range([low, high])}{told}")
    known = found["shuffle"]
    scope = "all shards together" if known["window"] is None else f"windows of {known['window']} shards"
    lines.append(
        f"  order {scope}, {known['lanes']} lane(s): neighbours land {known['apart']:,.0f} positions apart "
        f"on average, {known['share_of_random']:.0%} of what chance gives; a batch of {known['batch']} mixes "
        f"{known['shards_in_a_batch']:.1f} shards"
    )
    return "\n".join(lines)


def _show_latent(manifest: Manifest) -> str:
    latent = manifest.latent
    stored = "(mean + deviation * noise)" if latent.moments else "value"
    weights = f", weights {latent.weights[:12]}" if latent.weights else ""
    return (
        f"{latent.shape} = {stored} * {_numbers(latent.scale)} + {_numbers(latent.shift)}, "
        f"stored as {latent.dtype}{weights}"
    )


def _numbers(values: Any) -> str:
    shown = [f"{value:.5g}" for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown[:8])}{', …' if len(shown) > 8 else ''})"


def _range(pair: list[int]) -> str:
    return f"{pair[0]:,}" if pair[0] == pair[1] else f"{pair[0]:,} to {pair[1]:,}"
