"""The CIFAR-10 recipes, on an archive of thirty pictures that stands for the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from running import ROOT, trainer_of
from source_parts import encode, pixels, write_tar

from genmem.building import shapes_of
from genmem.recipe import load
from genmem.sampling.generator import generator_of

RECIPES = sorted((ROOT / "recipes" / "cifar10").glob("*.toml"))
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WIDTH = 16


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive: twenty pictures to train on, ten held out."""
    folder = tmp_path_factory.mktemp("cifar")
    names = [
        f"{split}/{name}/{i}.jpg"
        for split, n in (("train", 2), ("test", 1))
        for name in NAMES
        for i in range(n)
    ]
    write_tar(
        folder / "cifar10-jpeg.tar.xz", {n: encode(pixels(i, 32, 32), "JPEG") for i, n in enumerate(names)}
    )
    return folder


def test_there_is_a_baseline_and_two_siblings() -> None:
    assert [path.stem for path in RECIPES] == ["dispersive", "gmem", "label"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_is_prepared_from_the_archive_and_takes_a_step(path: Path, small: Path) -> None:
    overrides = [
        f'--data.path="{small}/set"',
        f'--data.source.path="{small}/cifar10-jpeg.tar.xz"',
        f"--data.encoder.pca.width={WIDTH}",
        "--data.expect.num_samples=20",
        f"--data.expect.features.pca={WIDTH}",
        *("--backbone.size=none", "--backbone.depth=2", "--backbone.width=32", "--backbone.heads=4"),
        *("--backbone.patch=8", "--train.batch=16", "--sampler.steps=2"),
    ]
    if path.stem == "gmem":
        overrides += [f'--memory.bank.path="{small}/bank"', "--memory.bank.rank=8"]
    recipe = load(path, overrides)
    trainer = trainer_of(recipe)
    assert trainer.dataset.class_names == NAMES
    assert all(bool(value.isfinite()) for value in trainer.step().values())
    shapes = shapes_of(trainer.dataset)
    backbone = trainer.averages.modules[recipe.evaluate.weights]
    generator = generator_of(recipe, backbone, trainer.assembly.conditioner, shapes, trainer.device)
    assert generator.sample(torch.arange(2), 0).x.shape == (2, 3, 32, 32)


def test_the_baseline_is_sit_s() -> None:
    config = load(ROOT / "recipes" / "cifar10" / "label.toml").backbone.config
    assert set(config.tap_widths) == set(range(1, 13)) and set(config.tap_widths.values()) == {384}
