"""Bad recipes, and what each is told. A good one, with one thing changed, in all but a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import RECIPE, fake_catalog
from genmem.recipe import RecipeError, load, loads

SPREAD = '[objective.spread]\nuse = "spread"\nweight = 0.5\ntap = 2'

BAD = [
    # Keys.
    (("depth = 4", "dept = 4"), "bad:12: unknown key 'dept', did you mean 'depth'? @ backbone.dept"),
    (
        ("depth = 4", "colour = 4"),
        "bad:12: unknown key 'colour'; there are: use, depth, width, takes @ backbone.colour",
    ),
]
