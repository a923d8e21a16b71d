"""From a recipe and a command line to a plan; every fault of every run at once. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from genmem.host import Catalog, load_catalog
from genmem.recipe import Problem, Recipe, RecipeError, load
from genmem.recipe.overrides import apply_overrides
from genmem.recipe.reading import Document, read
from genmem.recipe.structure import NONE, Reader
from genmem.recipe.tables import SweepTable
from genmem.sweep.axes import Axis, Line, sort_overrides, text_of
from genmem.sweep.faults import Draft, Faults
from genmem.sweep.names import points, safe
from genmem.sweep.plan import Configuration, Plan, scores_of


def plan(
    source: str,
    words: Sequence[str] = (),
    plugins: tuple[Path, ...] = (),
    *,
    seeds: int | None = None,
    out: Path | None = None,
) -> Plan:
    """Plan a sweep.

    Args:
        source: A recipe file, or the name of a shipped one.
        words: Overrides; those with several values are axes, over those of `[sweep.axes]`.
        plugins: Un-packaged plugin files to load besides those the recipes name.
        seeds: Runs of each configuration; the recipe's if absent.
        out: Folder of the sweep; runs/NAME-sweep if absent.

    Raises:
        RecipeError: Everything that is wrong with any of its runs.
    """
    line = sort_overrides(words)
    catalog = load_catalog()
    document, problems = apply_overrides(read(source), (*line.table, *line.plain.values()))
    if problems:
        raise RecipeError(problems)
    table = _read_table(document, catalog)
    axes = _axes(table, line)
    name = safe(str(document.raw.get("name", document.name)))
    drafts = _drafts(source, table, line, axes, name)
    faults = Faults(source)
    faults.check_axes(axes)
    faults.check_names(table, drafts)
    settings = dict(points([axis for axis in axes if not axis.trains]))
    configurations = [_configuration(draft, settings, plugins, catalog, faults) for draft in drafts]
    planned = tuple(one for one in configurations if one is not None)
    score = table.score or (scores_of(planned[0].recipe)[0] if planned else "")
    faults.check_score(score, planned)
    faults.tell(len(drafts))
    return Plan(
        name=name,
        out=out or Path("runs") / f"{name}-sweep",
        configurations=planned,
        baseline=table.baseline or drafts[0].name,
        score=score,
        seeds=seeds or table.seeds,
        plugins=plugins,
    )


def _read_table(document: Document, catalog: Catalog) -> SweepTable:
    """The `[sweep]` table alone: the rest may be right only with a value of every axis."""
    raw = document.raw.get("sweep", {})
    reader = Reader(catalog)
    table = reader.read(SweepTable, {} if raw == NONE else raw)
    if reader.faults:
        places = [("sweep", *fault.path) for fault in reader.faults]
        told = zip(places, reader.faults, strict=True)
        raise RecipeError(Problem(document.origin(place), fault.message, place) for place, fault in told)
    assert isinstance(table, SweepTable)
    return table


def _axes(table: SweepTable, line: Line) -> list[Axis]:
    """Those of the recipe that the command line leaves alone, then its own."""
    axes = {key: Axis(key, tuple(map(text_of, values))) for key, values in table.axes.items()}
    kept = {key: axis for key, axis in axes.items() if key not in line.plain}
    return list((kept | dict(line.axes)).values())


def _drafts(source: str, table: SweepTable, line: Line, axes: Sequence[Axis], name: str) -> list[Draft]:
    """What stands beside the grid, then the grid; the recipe itself where there is neither."""
    plain = tuple(line.plain.values())
    beside = [Draft(key, file, plain) for key, file in table.beside.items() if file != NONE]
    trained = [axis for axis in axes if axis.trains]
    if beside and not trained:
        return beside
    grid = [Draft(point or name, source, (*plain, *words)) for point, words in points(trained)]
    return beside + grid


def _configuration(
    draft: Draft,
    settings: Mapping[str, tuple[str, ...]],
    plugins: tuple[Path, ...],
    catalog: Catalog,
    faults: Faults,
) -> Configuration | None:
    """The configuration with its recipes; None where there are faults."""

    def read_recipe(words: tuple[str, ...]) -> Recipe | None:
        try:
            return load(draft.source, (*draft.overrides, *words), plugins, catalog)
        except RecipeError as error:
            faults.add(draft.name, error.problems)
            return None

    recipe = read_recipe(())
    scored = {name: read_recipe(words) if words else recipe for name, words in settings.items()}
    whole = {name: one for name, one in scored.items() if one is not None}
    if recipe is None or len(whole) < len(settings):
        return None
    alone = {name: attrs.evolve(one, sweep=None) for name, one in whole.items()}
    overrides = draft.overrides if recipe.sweep is None else (*draft.overrides, "--sweep=none")
    return Configuration(draft.name, draft.source, overrides, attrs.evolve(recipe, sweep=None), alone)
