"""The outcome of a sweep as data: a row for each configuration and each way of scoring it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from genmem.comparing.protocols import comparable, name_memory
from genmem.comparing.statistics import Curve, Spread, images_to, mean_curve
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import DECODE, HELD_OUT, SAMPLES, Column
from genmem.scoring.table import Row as ScoreRow
from genmem.sweep.folders import Scores, Trained
from genmem.sweep.plan import Plan
from genmem.sweep.running import company_of

KINDS: Mapping[str, str] = {HELD_OUT: "held-out rows", SAMPLES: "", DECODE: "linear decode"}
"""{row of a run's own table: what it is called here}. Of a run with a memory all three are shown, and
what is scored without the rows of training pictures comes first."""

RATE = "images/s"


@attrs.frozen
class Row:
    """One kind of pictures of a configuration, under one setting and one protocol."""

    name: str
    setting: str
    kind: str
    """The row of the runs' own tables."""

    memory: str
    """What the rows that condition are; empty where there are none."""

    protocol: Protocol
    scores: Mapping[str, Spread]
    """{column: over the seeds that have it}."""

    floor: Mapping[str, float]
    """{column: the score of real pictures}."""


@attrs.frozen
class Training:
    """One configuration's training runs, those that are complete."""

    name: str
    planned: int
    images: int
    protocol: Protocol | None
    """Of the scores along the way; None where there are none, or the seeds differ in it."""

    curves: tuple[Curve, ...]
    rate: Spread | None
    """Images per second."""

    company: tuple[int | None, ...]
    """For each run, how many shared the machine, itself among them; None where nobody knows."""


@attrs.frozen
class Outcome:
    """Everything the runs of a sweep have to say, so far."""

    name: str
    baseline: str
    score: str
    columns: tuple[Column, ...]
    trainings: Mapping[str, Training]
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    """Runs and scorings that are not there yet."""

    @property
    def samples(self) -> list[Row]:
        """The rows that are the runs' own."""
        return [row for row in self.rows if row.kind == SAMPLES]

    def against(self, row: Row) -> Row | None:
        """The baseline's row that a row may be compared with; None for the baseline's own.

        Samples alone are compared: held-out rows have half of the held-out pictures as reference.
        """
        found = [one for one in self.samples if one.name == self.baseline != row.name]
        if row.kind != SAMPLES:
            return None
        return next((one for one in found if comparable(one.protocol, row.protocol)), None)

    def mark(self) -> float | None:
        """The baseline's final score along the way: the mean over its seeds."""
        curve = mean_curve(self.trainings[self.baseline].curves)
        return curve[-1][1] if curve else None

    def reached(self, name: str) -> list[float | None] | None:
        """Images each run of a configuration took to the mark; None where they cannot be compared.

        Raises:
            ValueError: A score that has no logarithm.
        """
        training, baseline, mark = self.trainings[name], self.trainings[self.baseline], self.mark()
        if mark is None or training.protocol is None or baseline.protocol is None:
            return None
        if not comparable(training.protocol, baseline.protocol):
            return None
        return [images_to(curve, mark) for curve in training.curves]


def outcome_of(plan: Plan) -> Outcome:
    """Read the run folders."""
    folders = {
        one.name: [Trained(run) for run in one.runs(plan.out, plan.seeds)] for one in plan.configurations
    }
    rows: list[Row] = []
    columns: dict[str, Column] = {}
    missing: list[str] = []
    for one in plan.configurations:
        for setting in one.settings:
            found = [(run, run.scores(setting)) for run in folders[one.name]]
            missing += [f"{run.run.label} {setting}".rstrip() for run, scores in found if scores is None]
            scored = [scores for _, scores in found if scores is not None]
            columns |= {column.key: column for scores in scored for column in scores.table.columns}
            rows += _rows(one.name, setting, scored)
    trainings = {name: _training(name, runs, plan.score) for name, runs in folders.items()}
    shown = tuple(column for key, column in columns.items() if any(key in row.scores for row in rows))
    return Outcome(plan.name, plan.baseline, plan.score, shown, trainings, tuple(rows), tuple(missing))


def _rows(name: str, setting: str, scored: Sequence[Scores]) -> Iterator[Row]:
    """One of each kind; more where runs of one configuration were scored under different protocols."""
    for protocol in dict.fromkeys(_protocol(scores) for scores in scored):
        found = [scores for scores in scored if _protocol(scores) == protocol]
        there = [{row.name: row for row in scores.table.rows} for scores in found]
        memory = name_memory(found[0].memory) if found[0].memory else ""
        for kind in KINDS:
            rows = [table[kind] for table in there if kind in table]
            if len(rows) == len(found):
                floor = rows[0].floor or (found[0].table.floor if kind == SAMPLES else {})
                yield Row(name, setting, kind, memory, protocol, _spreads(rows), floor)


def _spreads(rows: Sequence[ScoreRow]) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for key, cell in row.cells.items():
            if cell.value is not None:
                values.setdefault(key, []).append(cell.value)
    return {key: Spread(tuple(found)) for key, found in values.items() if len(found) == len(rows)}


def _protocol(scores: Scores) -> Protocol:
    return Protocol.from_json(scores.protocol)


def _training(name: str, runs: Sequence[Trained], score: str) -> Training:
    complete = [(run, run.final) for run in runs if run.final is not None]
    protocols = {_protocol(final) for _, final in complete}
    rates = [final.run[RATE] for _, final in complete if RATE in final.run]
    return Training(
        name=name,
        planned=len(runs),
        images=runs[0].run.recipe.train.images,
        protocol=protocols.pop() if len(protocols) == 1 else None,
        curves=tuple(run.curve(score) for run, _ in complete),
        rate=Spread(tuple(rates)) if rates else None,
        company=tuple(company_of(run.run) for run, _ in complete),
    )
