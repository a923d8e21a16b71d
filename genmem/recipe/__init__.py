"""Recipes: TOML in, a fully resolved `Recipe` out, and every problem told at once. No torch."""

from genmem.recipe.errors import Problem, RecipeError
from genmem.recipe.loading import load, load_data, load_encoder, loads
from genmem.recipe.tables import Images, Recipe, Seat
from genmem.recipe.writing import dump

__all__ = [
    "Images",
    "Problem",
    "Recipe",
    "RecipeError",
    "Seat",
    "dump",
    "load",
    "load_data",
    "load_encoder",
    "loads",
]
