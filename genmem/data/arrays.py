"""A split written from arrays that are in memory: for sets made by a script, and for benchmarks.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genmem.contracts import LatentSpec, Split
from genmem.data.files import hash_file
from genmem.data.format.fields import SAMPLE
from genmem.data.format.index import INDEX, join_indexes, save_index
from genmem.data.format.manifest import Component, Feature, FittedEncoder, Manifest
from genmem.data.format.scanning import describe_shard
from genmem.data.format.writer import write_shard

_GIVEN = "given"


def write_split(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    label_N: np.ndarray,
    spec: LatentSpec,
    *,
    split: Split = "train",
    shard_size: int = 1000,
    picture_shape: tuple[int, int, int],
    class_names: Sequence[str],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write shards, index and manifest of a split without mirrored twins.

    Args:
        folder: Of the split, DATASET/train say.
        arrays: {"x": (N, …) as `spec` says, "feature": (N, …)}.
        label_N: Class numbers.
        spec: How x follows from what is stored.
        split: Which split it is.
        shard_size: Samples in a shard.
        picture_shape: H, W, C of the pictures the samples stand for.
        class_names: Names in label order.
        provenance: Anything worth keeping (JSON).

    Raises:
        DataError: Arrays of unequal length.
    """
    described = []
    for i, first in enumerate(range(0, len(label_N), shard_size)):
        rows, path = slice(first, first + shard_size), folder / f"{i:06d}.tar"
        write_shard(path, first, {name: values[rows] for name, values in arrays.items()}, label_N[rows])
        described.append(describe_shard(path))
    save_index(join_indexes([index for _, index in described]), folder)
    features = {name: values for name, values in arrays.items() if name != SAMPLE}
    manifest = Manifest(
        split=split,
        views=1,
        picture_shape=picture_shape,
        tokenizer=Component(spec.tokenizer, {}),
        latent=spec,
        class_names=tuple(class_names),
        encoders={name: FittedEncoder(use=_GIVEN, settings={}, state="") for name in features},
        features={
            name: Feature(dtype=values.dtype.name, shape=values.shape[1:], encoder=name)
            for name, values in features.items()
        },
        shards=tuple(shard for shard, _ in described),
        index=hash_file(folder / INDEX),
        source=Component(_GIVEN, {}),
        provenance=dict(provenance or {}),
    )
    manifest.save(folder)
