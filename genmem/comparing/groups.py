"""Runs of one configuration with several seeds are one row: mean and standard deviation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import attrs

from genmem.comparing.folders import RATE, Curve, Finished, Scoring
from genmem.comparing.statistics import Spread
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import SAMPLES, Row
from genmem.training.folder import FREE

SEED = "train.seed"
ASIDE = (SEED, "name", *(key for key in FREE if key != "train.images"))
"""Keys that may differ within a configuration."""

Over = Literal["training seeds", "sets of noise", "nothing"]


@attrs.frozen
class Estimate:
    """A score and what it was repeated over."""

    spread: Spread
    over: Over

    @classmethod
    def of(cls, per_run: Sequence[Sequence[float]]) -> Estimate:
        """From each run's values over sets of noise; a run's score is their mean."""
        if len(per_run) > 1:
            return cls(Spread(tuple(Spread(tuple(values)).mean for values in per_run)), "training seeds")
        values = tuple(per_run[0])
        return cls(Spread(values), "sets of noise" if len(values) > 1 else "nothing")


@attrs.frozen(kw_only=True)
class Group:
    """One configuration."""

    name: str
    runs: tuple[Finished, ...]
    scorings: tuple[Scoring, ...]
    """The one of each run that is compared."""

    @property
    def first(self) -> Finished:
        """Stands for the others in what they share."""
        return self.runs[0]

    @property
    def protocol(self) -> Protocol:
        """Of the scores; the same for every run."""
        return self.scorings[0].protocol

    @property
    def memory(self) -> Mapping[str, Any] | None:
        """Of the memory that conditions."""
        return self.scorings[0].memory

    @property
    def images(self) -> int:
        """Images the weights have seen."""
        return self.first.images

    @property
    def rate(self) -> Spread | None:
        """Images a second in training."""
        rates = tuple(run.run[RATE] for run in self.runs if RATE in run.run)
        return Spread(rates) if rates else None

    @property
    def evaluations(self) -> int | None:
        """Network evaluations a sample takes, the most of any run."""
        known = [one.evaluations for one in self.scorings if one.evaluations is not None]
        return max(known) if known else self.protocol.steps

    def curves(self, key: str) -> list[Curve]:
        """One for each run that has any marks."""
        return [curve for curve in (run.curve(key) for run in self.runs) if curve]

    def rows(self) -> Iterator[str]:
        """Kinds of pictures that every run has scores of."""
        for row in self.scorings[0].table.rows:
            if all(any(row.name == one.name for one in scoring.table.rows) for scoring in self.scorings):
                yield row.name

    def figures(self, row: str = SAMPLES) -> dict[str, Estimate]:
        """{column key: score} of the columns that every run has."""
        found = {}
        for column in self.scorings[0].table.columns:
            cells = [_cells(one.table[row]).get(column.key) for one in self.scorings]
            values = [cell.values or (cell.value,) for cell in cells if cell and cell.value is not None]
            if len(values) == len(cells):
                found[column.key] = Estimate.of([[v for v in some if v is not None] for some in values])
        return found


def group_runs(runs: Sequence[Finished], scorings: Sequence[Scoring]) -> tuple[Group, ...]:
    """Put together what differs in the seed alone, in the order given.

    Raises:
        ValueError: The same recipe and seed twice, which would count one run as two.
    """
    found: dict[str, list[int]] = {}
    for number, (run, scoring) in enumerate(zip(runs, scorings, strict=True)):
        key = repr(
            (sorted(own_keys(run).items(), key=lambda pair: pair[0]), run.images, scoring.protocol.digest)
        )
        found.setdefault(key, []).append(number)
    for numbers in found.values():
        _refuse_twins([runs[number] for number in numbers])
    members = [[runs[number] for number in numbers] for numbers in found.values()]
    names = _distinct(members)
    return tuple(
        Group(name=name, runs=tuple(some), scorings=tuple(scorings[number] for number in numbers))
        for name, some, numbers in zip(names, members, found.values(), strict=True)
    )


def own_keys(run: Finished) -> dict[str, Any]:
    """The keys of a recipe that make a configuration."""
    return {key: value for key, value in run.recipe.items() if not key.startswith(ASIDE)}


def _cells(row: Row) -> Mapping[str, Any]:
    return row.cells


def _refuse_twins(runs: Sequence[Finished]) -> None:
    seen: dict[int, Finished] = {}
    for run in runs:
        if run.seed in seen:
            raise ValueError(
                f"{seen[run.seed].path} and {run.path} are one recipe with one seed ({run.seed}), "
                "and would count as two; name one of them"
            )
        seen[run.seed] = run


def _distinct(members: Sequence[Sequence[Finished]]) -> list[str]:
    """A name for each configuration, with as many folders above as tell them apart."""
    longest = max(len(run.path.resolve().parts) for some in members for run in some)
    for depth in range(1, longest + 1):
        names = [_common([_label(run.path, depth) for run in some]) for some in members]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


def _label(path: Path, depth: int) -> str:
    parts = path.resolve().parts
    parts = parts[:-1] if re.fullmatch(r"seed=\d+", parts[-1]) and len(parts) > 2 else parts
    return "/".join(part for part in parts[-depth:] if part != "/")


def _common(labels: Sequence[str]) -> str:
    """What several folders' names begin with, without a seed's separator."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))
    shared = "".join(letters[0] for letters in alike)
    return labels[0] if len(set(labels)) == 1 else shared.rstrip("-_=. /") or labels[0]
