"""Looking for the best sampler, guidance or EMA on a small budget, on noise that no score is made of.

A setting chosen by a score has that score's luck in it. So the search has a seed of its own; the
chosen setting is scored anew on other noise, and both figures are told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from rich.console import Console

from genmem import collectives
from genmem.api import Run
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.full import columns_of, sample_set, score_samples
from genmem.scoring.protocol import Protocol
from genmem.scoring.run_protocol import protocol_of
from genmem.scoring.table import Column, column_to_rank_by
from genmem.sweep.axes import Axis, sort_overrides
from genmem.sweep.names import points
from genmem.training.progress import preparation_progress

if TYPE_CHECKING:
    from rich.table import Table

SEARCHED = ("sampler.", "guidance.", "guidance", "memory.", "evaluate.weights")
"""Keys whose best value may be looked for; others change what is measured."""

SHARE = 4
"""Without a budget, a search has one sample for so many of a full scoring's."""

LEAST = 2
"""The fewest samples that have a covariance."""


@attrs.frozen
class Trial:
    """One setting and what it scored in the search."""

    name: str
    overrides: tuple[str, ...]
    protocol: Protocol
    score: float


@attrs.frozen(kw_only=True)
class Search:
    """The outcome of a search; without trials where nothing was looked for."""

    overrides: tuple[str, ...]
    """Of what is to be scored: those that were given, with the best value of each axis."""

    trials: tuple[Trial, ...] = ()
    column: Column | None = None
    """The score it goes by."""

    budget: int = 0
    seed: int = 0

    @property
    def best(self) -> Trial:
        """The setting with the best score; of equal ones the first."""
        sign = -1 if self.column and self.column.better == "higher" else 1
        return min(self.trials, key=lambda trial: sign * trial.score)

    def to_json(self) -> dict[str, Any]:
        """Plain data, kept beside the scores of the setting that was chosen."""
        return {
            "by": self.column.key if self.column else "",
            "samples": self.budget,
            "seed": self.seed,
            "chosen": self.best.name,
            "trials": [
                {
                    "name": trial.name,
                    "overrides": list(trial.overrides),
                    "protocol": trial.protocol.digest,
                    "score": trial.score,
                }
                for trial in self.trials
            ],
        }

    def __rich__(self) -> Table:
        """A row for each setting."""
        from rich.table import Table

        assert self.column is not None
        title = f"search: {self.budget:,} samples a setting, noise of seed {self.seed}"
        table = Table(title=title, title_justify="left")
        table.add_column("setting")
        table.add_column(self.column.title, justify="right")
        table.add_column("protocol")
        for trial in self.trials:
            mark = " ← chosen, scored below on other noise" if trial is self.best else ""
            table.add_row(f"{trial.name}{mark}", self.column.text(trial.score), trial.protocol.digest)
        return table


def search(
    opened: Callable[..., Run],
    words: Sequence[str],
    *,
    seeds: Sequence[int],
    budget: int | None,
    by: str | None,
    console: Console,
) -> Search:
    """Score every point of the grid that commas in `words` make; nothing where there is no comma.

    Args:
        opened: Opens the run, with `overrides`.
        words: Overrides; a comma outside brackets and quotes makes an axis.
        seeds: Those of the scoring to come, which the search keeps away from.
        budget: Samples for each setting.
        by: Key of the score to go by; the first column's if absent.
        console: For a progress bar.

    Raises:
        ValueError: An axis of what is measured, a budget or score without an axis, an unknown score.
    """
    line = sort_overrides(words)
    axes, plain = tuple(line.axes.values()), (*line.table, *line.plain.values())
    if not axes:
        if budget is not None or by is not None:
            raise ValueError(
                "--budget and --by are for a search: give an override several values, "
                "--guidance.scale=1,1.5,2 say"
            )
        return Search(overrides=plain)
    _check(axes)
    options = opened(overrides=plain).recipe.evaluate
    size = budget or max(LEAST, options.samples // SHARE)
    seed = max(seeds or (options.seed,)) + 1
    common = (*plain, f"--evaluate.samples={size}")
    runs = [(name, own, opened(overrides=(*common, *own))) for name, own in points(axes)]
    base = opened(overrides=common)
    evaluation = Evaluation(base.recipe, base.dataset, base.device)
    column = _column(columns_of(evaluation), by)
    trials = []
    with preparation_progress(console, shown=collectives.rank() == 0) as bar:
        for number, (name, own, run) in enumerate(runs, 1):
            trials.append(_try(name, own, run, evaluation, seed, column))
            bar("searching", number, len(runs))
    found = Search(overrides=plain, trials=tuple(trials), column=column, budget=size, seed=seed)
    return attrs.evolve(found, overrides=(*plain, *found.best.overrides))


def _try(
    name: str, words: tuple[str, ...], run: Run, evaluation: Evaluation, seed: int, column: Column
) -> Trial:
    weights = run.recipe.evaluate.weights
    generator = run.generator(weights)
    protocol = protocol_of(run.recipe, run.dataset, generator.conditioner.store, (seed,), weights)
    found = sample_set(evaluation, generator, seed)
    # Rank 0 alone has scores; all must choose the same setting.
    score = score_samples(evaluation, generator, found).get(column.key, 0.0)
    told = collectives.add(torch.tensor(score, dtype=torch.float64))
    return Trial(name, words, protocol, float(told))


def _check(axes: Sequence[Axis]) -> None:
    for axis in axes:
        if not axis.key.startswith(SEARCHED):
            raise ValueError(
                f"--{axis.key}: several values make a search, and this key changes what is measured; "
                "only sampler, guidance, memory and evaluate.weights can be searched. "
                "`genmem sweep` scores every value"
            )


def _column(columns: Sequence[Column], by: str | None) -> Column:
    ranked = {column.key: column for column in columns if column.better != "neither"}
    return column_to_rank_by(ranked, by, "no score that ranks is called so")
