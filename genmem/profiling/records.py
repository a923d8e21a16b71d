"""Bytes that a training step reads of one sample."""

from __future__ import annotations

import math

import numpy as np

from genmem.building import Builder, Shapes
from genmem.contracts import Record
from genmem.data.dataset import is_prepared, open_dataset
from genmem.data.format.inspection import record_size
from genmem.data.making.specs import stored_dtype
from genmem.data.streaming.remote import is_remote
from genmem.profiling.blueprint import Blueprint
from genmem.profiling.reserved import reserve
from genmem.profiling.step import measure
from genmem.recipe.tables import Recipe
from genmem.training.trainer import wanted_features


def count_record_bytes(recipe: Recipe, shapes: Shapes) -> dict[str, int]:
    """{field: bytes} of one sample in one view: x, features that are looked at, a conditioning row.

    As the manifest says where the set is there; else as the tokenizer says it will be, and empty where
    only the built tokenizer knows.
    """
    data = recipe.data
    if not is_remote(data.path) and is_prepared(data.path):
        manifest = open_dataset(data).manifest("train")
        names = ("x", *sorted(wanted_features(recipe)))
        found = {name: record_size(manifest.form(name)) for name in names}
    else:
        record = data.tokenizer.config.record(shapes.sample_shape)
        if record is None:
            return {}
        found = {"x": _size(record, data.precision)}
        features, _ = measure(_feature_shapes, recipe, shapes, 1)
        found |= {name: _size(Record(of, "float32"), data.precision) for name, of in features.items()}
    return found | _row(recipe, shapes)


def _feature_shapes(blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(rows.shape[1:]) for name, rows in blueprint.batch(1).features.items()}


def _size(record: Record, precision: str | None) -> int:
    return math.prod(record.shape) * np.dtype(stored_dtype(record.dtype, precision)).itemsize


def _row(recipe: Recipe, shapes: Shapes) -> dict[str, int]:
    """A row of the memory that conditions, where it lies on disk."""
    name = recipe.condition.memory
    if name is None:
        return {}
    extent = reserve(Builder(recipe, shapes))[name].extent
    on_disk = extent.num_bytes - extent.device_bytes
    return {f"memory.{name}": on_disk // max(extent.rows, 1)} if on_disk else {}
