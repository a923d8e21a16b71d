"""What `genmem profile` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from genmem.building import Builder, Shapes, expected_shapes, shapes_of
from genmem.data.dataset import is_prepared, open_dataset
from genmem.data.preparation import prepare
from genmem.profiling.blueprint import example, network
from genmem.profiling.costs import count_macs, count_parameters
from genmem.profiling.difference import Difference
from genmem.profiling.footprint import measure_footprint
from genmem.profiling.forecast import RANKS, forecast
from genmem.profiling.report import CostReport
from genmem.profiling.reserved import reserve
from genmem.profiling.step import measure_step
from genmem.recipe import load
from genmem.recipe.tables import Recipe
from genmem.training.progress import preparation_progress

Tell = Callable[[str, int, int], None]

STAGES = ("a training step", "memory by part", "one forward, operator by operator")


def profile(
    source: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    *,
    against: str | None = None,
    world: int = 1,
    as_json: bool,
) -> None:
    """Print what a recipe costs, or what it costs beside another; overrides are laid over both.

    Raises:
        RecipeError: What is wrong with a recipe.
        ValueError: Batch, processes and objectives that do not fit together.
    """
    recipes = [load(name, overrides, plugins) for name in (against, source) if name is not None]
    with preparation_progress(Console(stderr=True), shown=True) as tell:
        reports = [cost_of(recipe, world, tell) for recipe in recipes]
    found = reports[0] if against is None else Difference(*reports)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        Console().print(found)


def foresee(recipe: Recipe, nproc: int, images_per_s: float | None) -> None:
    """Print what `genmem train --dry-run` says: for 8, 64 and 512 processes, and for `nproc` of several.

    Raises:
        ValueError: A recipe that does not say what its data hold, of data that are not there.
    """
    ranks = sorted({*RANKS, *([nproc] if nproc > 1 else [])})
    ready = recipe.data.expect is None and is_prepared(recipe.data.path)
    shapes = shapes_of(open_dataset(recipe.data)) if ready else expected_shapes(recipe)
    with Console(stderr=True).status("working it out"):
        found = forecast(recipe, shapes, ranks, images_per_s)
    Console().print(found)


def cost_of(
    recipe: Recipe, world: int = 1, tell: Tell = lambda *_: None, shapes: Shapes | None = None
) -> CostReport:
    """Costs of a recipe on one of `world` processes. Shards are made where nothing says their shapes."""
    shapes = _shapes(recipe, tell) if shapes is None else shapes

    def stage(number: int) -> None:
        tell(f"{recipe.name}: {STAGES[min(number, len(STAGES) - 1)]}", number, len(STAGES))

    stage(0)
    step = measure_step(recipe, shapes, world)
    stage(1)
    footprint = measure_footprint(recipe, shapes, world, step)
    stage(2)
    builder = Builder(recipe, shapes)
    facts = builder.facts(reserve(builder))
    backbone = network(recipe, shapes)
    return CostReport(
        name=recipe.name,
        parameters=count_parameters(backbone),
        training_parameters=footprint.trained,
        macs=count_macs(backbone, example(recipe, shapes, facts.condition_width, 1)),
        worked_out=recipe.backbone.config.count(facts),
        step=step,
        footprint=footprint,
    )


def _shapes(recipe: Recipe, tell: Tell) -> Shapes:
    return expected_shapes(recipe) if recipe.data.expect else shapes_of(prepare(recipe.data, tell))
