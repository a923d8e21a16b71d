"""Everything wrong with a sweep, each fault once, with the names of the runs that have it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from genmem.host import did_you_mean
from genmem.recipe import Problem, RecipeError
from genmem.recipe.errors import Origin
from genmem.recipe.structure import NAME
from genmem.recipe.tables import SweepTable
from genmem.sweep.axes import Axis
from genmem.sweep.plan import Configuration, scores_of

FIXED = {
    "train.seed": "seeds are counted: write --seeds N, or seeds = N in [sweep]",
    "name": "it changes nothing of a run",
    "description": "it changes nothing of a run",
}
"""Keys that are no axis, and why."""


class Draft(NamedTuple):
    """A configuration before its recipe is read."""

    name: str
    source: str
    overrides: tuple[str, ...]


class Faults:
    """Problems, each told once, with the names of the runs that have it."""

    def __init__(self, source: str) -> None:
        self._origin = Origin(source)
        self._names: dict[Problem, dict[str, None]] = {}

    def add(self, name: str, problems: Sequence[Problem]) -> None:
        """Problems of one configuration's recipe."""
        for problem in problems:
            self._names.setdefault(problem, {})[name] = None

    def check_axes(self, axes: Sequence[Axis]) -> None:
        """An axis has different values, all there, of a key that makes a difference."""
        for axis in axes:
            texts = [value.strip() for value in axis.values]
            twice = next((text for text in texts if texts.count(text) > 1), None)
            if "" in texts:
                self._fault(f"one of the values is empty: {','.join(axis.values)}", axis.key)
            elif twice is not None:
                self._fault(f"the value {twice} is there twice", axis.key)
            if axis.key in FIXED:
                self._fault(f"{axis.key} is no axis: {FIXED[axis.key]}", axis.key)

    def check_names(self, table: SweepTable, drafts: Sequence[Draft]) -> None:
        """Names make folders, unlike any of the grid, which have a "=", and the baseline is one of them."""
        names = [draft.name for draft in drafts]
        for name in table.beside:
            if not NAME.fullmatch(name):
                self._fault("a name is made of letters, digits, - and _", "sweep.beside", name)
        if table.baseline is not None and table.baseline not in names:
            near = did_you_mean(table.baseline, names) or f"; there are: {', '.join(names)}"
            self._fault(f"there is no configuration {table.baseline!r}{near}", "sweep.baseline")

    def check_score(self, score: str, configurations: Sequence[Configuration]) -> None:
        """Every run is scored in the score they are compared by."""
        for one in configurations:
            scores = scores_of(one.recipe)
            if score not in scores:
                message = f"this run has no score {score!r}; there are: {', '.join(scores)}"
                self.add(one.name, [Problem(self._origin, message, ("sweep", "score"))])

    def tell(self, runs: int) -> None:
        """Tell everything, if there is anything.

        Args:
            runs: Configurations in all: what all of them have is said of every run.

        Raises:
            RecipeError: With every fault.
        """
        if self._names:
            told = self._names.items()
            raise RecipeError(_in_runs(problem, list(names), runs) for problem, names in told)

    def _fault(self, message: str, *path: str) -> None:
        self._names.setdefault(Problem(self._origin, message, path), {})


def _in_runs(problem: Problem, names: Sequence[str], runs: int) -> Problem:
    if not names:
        return problem
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    who = "every run" if len(names) == runs > 1 else shown
    return Problem(
        Origin(f"{who}: {problem.origin.file}", problem.origin.line), problem.message, problem.path
    )
