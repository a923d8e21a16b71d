"""Every shipped recipe loads, is built, takes a step, and gives samples."""

from __future__ import annotations

import pytest
import torch
from running import ROOT, trainer_of

from genmem.building import shapes_of
from genmem.recipe import load
from genmem.sampling.generator import generator_of

RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))


def test_there_are_recipes():
    assert len(RECIPES) > 5


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT / "recipes")))
def test_it_is_built_and_takes_a_step(path, data):
    recipe = load(path, [f'--data.path="{data}/digits"'])
    if "bank" in recipe.memory:
        recipe = load(path, [f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"'])
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
