"""What a sweep runs, and what its runs are called. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from genmem.recipe.tables import Recipe

HELD_OUT = "loss/held_out"


@attrs.frozen(eq=False)
class Run:
    """One training run: a configuration with a seed."""

    name: str
    """Of the configuration."""

    folder: Path
    source: str
    """Recipe file or shipped name."""

    overrides: tuple[str, ...]
    recipe: Recipe
    """What the folder is to hold, resolved."""

    settings: Mapping[str, Recipe]
    """{setting: the recipe with it}, each a scoring of this one run; "" is the recipe's own."""

    @property
    def label(self) -> str:
        """The run in words: "rows=4096/seed=0"."""
        return f"{self.name}/{self.folder.name}"


@attrs.frozen
class Configuration:
    """One row's worth of runs, alike but for their seeds."""

    name: str
    source: str
    overrides: tuple[str, ...]
    recipe: Recipe
    settings: Mapping[str, Recipe]

    def runs(self, out: Path, seeds: int) -> tuple[Run, ...]:
        """Its runs, seeds counted from the recipe's."""
        return tuple(self._run(out, self.recipe.train.seed + number) for number in range(seeds))

    def _run(self, out: Path, seed: int) -> Run:
        overrides = (*self.overrides, f"--train.seed={seed}")
        train = attrs.evolve(self.recipe.train, seed=seed)
        recipe = attrs.evolve(self.recipe, train=train)
        folder = out / self.name / f"seed={seed}"
        settings = {name: attrs.evolve(scored, train=train) for name, scored in self.settings.items()}
        return Run(self.name, folder, self.source, overrides, recipe, settings)


@attrs.frozen(kw_only=True)
class Plan:
    """Everything a sweep runs."""

    name: str
    out: Path
    """Folder of its run folders and of its table."""

    configurations: tuple[Configuration, ...]
    baseline: str
    """The configuration the others are compared with."""

    score: str
    """The score that curves and the baseline's mark go by, as in metrics.jsonl."""

    seeds: int
    plugins: tuple[Path, ...] = ()
    """Un-packaged plugin files to load besides those the recipes name."""

    def runs(self) -> tuple[Run, ...]:
        """Every run, configuration by configuration."""
        return tuple(run for one in self.configurations for run in one.runs(self.out, self.seeds))


def scores_of(recipe: Recipe) -> list[str]:
    """Scores along its training that a curve can be drawn of: each above 0, lower is better."""
    return [*(f"fd/{name}" for name in recipe.evaluate.encoder), HELD_OUT]
