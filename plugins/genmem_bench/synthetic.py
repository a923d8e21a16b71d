"""A small set of random numbers in the shape that a recipe expects, where the set itself is not."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from genmem.contracts import LatentSpec
from genmem.data.arrays import write_split
from genmem.data.dataset import SPLITS, Dataset
from genmem.recipe import Recipe
from genmem.recipe.data_table import ExpectTable


def without_data(recipe: Recipe) -> Recipe:
    """The recipe with nothing in it that such a set lacks: no source, no mirrored twins."""
    return attrs.evolve(recipe, data=attrs.evolve(recipe.data, source=None, views=1, lanes=1))


def write_set(folder: Path, recipe: Recipe, samples: int) -> Dataset:
    """Random latents, features and labels as `[data.expect]` has them.

    Raises:
        ValueError: The recipe does not say what its data holds.
    """
    expect = recipe.data.expect
    if expect is None:
        raise ValueError(
            f"recipe {recipe.name!r} does not say what its data holds; add [data.expect], "
            "or leave --synthetic out"
        )
    for split in SPLITS:
        _write_split(folder / split, split, expect, samples)
    return Dataset(folder)


def _write_split(folder: Path, split: str, expect: ExpectTable, samples: int) -> None:
    rng = np.random.default_rng(0)
    spec = LatentSpec("none", expect.sample_shape, "float16", (1.0,), (0.0,))
    shapes = {"x": expect.sample_shape} | {name: (width,) for name, width in expect.features.items()}
    arrays = {
        name: rng.standard_normal((samples, *shape), np.float32).astype(np.float16)
        for name, shape in shapes.items()
    }
    write_split(
        folder,
        arrays,
        rng.integers(0, max(1, expect.num_classes), samples),
        spec,
        split="test" if split == "test" else "train",
        picture_shape=(256, 256, 3),
        class_names=[str(number) for number in range(expect.num_classes)],
    )
