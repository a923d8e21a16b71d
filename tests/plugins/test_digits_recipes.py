"""The shipped digits recipes: each trains a few steps and samples, with the evaluations it announces."""

from pathlib import Path

import pytest
import torch
from running import trainer_of

from genmem.building import shapes_of
from genmem.recipe import RecipeError, load
from genmem.sampling.generator import generator_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "digits").glob("*.toml"))
SMALL = ("--backbone.width=32", "--train.batch=32", "--train.images=96")


def recipe_of(path, data, *overrides):
    recipe = load(path)
    folder = data / Path(recipe.data.path).name
    bank = [f'--memory.bank.path="{folder}/bank"'] if "bank" in recipe.memory else []
    return load(path, [f'--data.path="{folder}"', *bank, *SMALL, *overrides])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_trains_and_samples(path, data):
    recipe = recipe_of(path, data)
    trainer = trainer_of(recipe)
    for _ in range(3):
        assert all(torch.isfinite(value) for value in trainer.step().values())
    assert trainer.guard.skipped == 0
    backbone, shapes = trainer.averages.modules["ema"], shapes_of(trainer.dataset)
    generator = generator_of(recipe, backbone, trainer.assembly.conditioner, shapes, trainer.device)
    found = generator.sample(torch.arange(3), 0)
    assert found.x.shape == (3, 1, 8, 8) and found.x.isfinite().all()
    announced = recipe.sampler.config.evaluations
    if announced is not None and recipe.guidance is None:
        assert found.evaluations_B.tolist() == [announced] * 3 and found.calls == announced
    torch.testing.assert_close(generator.sample(torch.arange(1, 2), 0).x[0], found.x[1], atol=1e-4, rtol=1e-4)


def test_a_sampler_that_asks_what_the_interpolant_does_not_train_is_refused(data):
    label = next(path for path in RECIPES if path.stem == "label")
    with pytest.raises(
        RecipeError, match="'meanflow' needs an interpolant that trains span; 'linear' does not"
    ):
        recipe_of(label, data, "--sampler.use=meanflow")
