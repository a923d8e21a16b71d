"""Every shipped recipe loads and is built; those on digits take a step and give samples besides."""

from __future__ import annotations

import pytest
import torch
from running import ROOT, trainer_of

from genmem.building import Builder, expected_shapes, shapes_of
from genmem.data.preparation import prepare
from genmem.recipe import load
from genmem.sampling.generator import generator_of

RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
EXPECTED = [path for path in RECIPES if load(path).data.expect is not None]
HERE = [path for path in RECIPES if path not in EXPECTED]
AWAY = [path for path in EXPECTED if "bank" not in load(path).memory]  # a bank is made of the data


def name_of(path):
    return str(path.relative_to(ROOT / "recipes"))


def test_there_are_recipes():
    assert len(HERE) > 5 and len(AWAY) > 5
    folders = {path.relative_to(ROOT / "recipes").parts[0] for path in HERE}
    assert folders == {"quickstart.toml", "digits"}, "a recipe on data that are not here needs [data.expect]"


@pytest.mark.parametrize("path", HERE, ids=name_of)
def test_it_is_built_and_takes_a_step(path, data):
    recipe = load(path)
    places = [f'--data.path="{data}/{recipe.data.path.removeprefix("data/")}"']
    if "bank" in recipe.memory:
        places.append(
            f'--memory.bank.path="{data}/{recipe.memory["bank"].config.path.removeprefix("data/")}"'
        )
    for name, seat in recipe.data.encoder.items():
        if getattr(seat.config, "weights", None):  # components of all the digits
            prepare(load(ROOT / "recipes/digits/label.toml", [f'--data.path="{data}/digits"']).data)
            file = seat.config.weights.removeprefix("data/")
            places.append(f'--data.encoder.{name}.weights="{data}/{file}"')
    recipe = load(path, places)
    trainer = trainer_of(recipe)
    values = trainer.step()
    assert all(bool(value.isfinite()) for value in values.values())
    trainer.guard.settle()
    assert trainer.guard.skipped == 0
    weights = recipe.evaluate.weights
    backbone = trainer.averages.modules[weights]
    shapes = shapes_of(trainer.dataset)
    generator = generator_of(recipe, backbone, trainer.assembly.conditioner, shapes, trainer.device)
    x = generator.sample(torch.arange(2), 0).x
    assert x.shape == (2, *shapes.sample_shape) and bool(x.isfinite().all())


@pytest.mark.parametrize("path", AWAY, ids=name_of)
def test_it_is_built_in_full_size_without_its_data(path):
    """Backbone and objectives on the meta device: nothing is allocated, every shape is checked."""
    recipe = load(path)
    builder = Builder(recipe, expected_shapes(recipe))
    memories = builder.memories(torch.device("cpu"))
    with torch.device("meta"):
        assembly = builder.assembly(memories, torch.device("meta"))
    assert all(parameter.is_meta for parameter in assembly.backbone.parameters())
    assert set(assembly.objective) == set(recipe.objective)
    size = sum(parameter.numel() for parameter in assembly.backbone.parameters())
    assert size > 10**6
