"""The table of a sweep as text: cells for people, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from genmem.comparing.statistics import Spread, differs
from genmem.scoring.table import SAMPLES, Better, Column
from genmem.sweep.notes import doubt_rates, notes
from genmem.sweep.outcome import KINDS, Outcome, Row, Training

ABSENT = "–"
ARROWS: dict[Better, str] = {"lower": " ↓", "higher": " ↑", "neither": ""}


def header(outcome: Outcome, columns: Sequence[Column]) -> list[str]:
    """Titles of the table's columns; `columns` are the scores in it."""
    scores = [f"{column.title}{ARROWS[column.better]}" for column in columns]
    settings = ["scored with"] if any(row.setting for row in outcome.rows) else []
    doubt = " (unreliable)" if doubt_rates(outcome) else ""
    own = ["images to baseline", f"images/s ×{doubt}"]
    return ["configuration", *settings, "seeds", *scores, *own, "protocol"]


def lines(outcome: Outcome, columns: Sequence[Column]) -> list[list[str]]:
    """Cells of every row."""
    settings = any(row.setting for row in outcome.rows)
    seen: set[str] = set()
    found = []
    for row in outcome.rows:
        training = outcome.trainings[row.name]
        first = row.kind == SAMPLES and row.name not in seen  # what is the training's own stands once
        seen |= {row.name} if first else set()
        own = [_reach(outcome, training), _rate(outcome, training)] if first else ["", ""]
        count = max((len(spread.values) for spread in row.scores.values()), default=0)
        scores = [score_text(outcome, row, column) for column in columns]
        found.append(
            [
                row_name(row),
                *([row.setting] if settings else []),
                str(count),
                *scores,
                *own,
                row.protocol.digest,
            ]
        )
    return found


def row_name(row: Row) -> str:
    """The configuration; of one with a memory, what its rows are, and which of its pictures these are."""
    memory = f" [{row.memory}]" if row.memory else ""
    kind = f", {KINDS[row.kind]}" if KINDS[row.kind] else ""
    return f"{row.name}{memory}{kind}"


def markdown(outcome: Outcome) -> str:
    """The table, and a line below it for each thing the numbers alone do not say."""
    titles = header(outcome, outcome.columns)
    rows = [titles, ["---"] * len(titles), *lines(outcome, outcome.columns)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    said = "\n".join(f"- {note}" for note in notes(outcome))
    return f"{table}\n\n{said}\n"


def score_text(outcome: Outcome, row: Row, column: Column) -> str:
    """Mean ± sd, and the difference from the baseline, or "none" where it is inside the spread."""
    spread = row.scores.get(column.key)
    if spread is None:
        return ABSENT
    text = _spread_text(spread, column)
    other = outcome.against(row)
    reference = other.scores.get(column.key) if other else None
    apart = None if reference is None else differs(spread, reference)
    if reference is None or apart is None or column.better == "neither":
        return text
    change = spread.mean - reference.mean
    signed = f"{'+' if change > 0 else '−'}{column.text(abs(change))}"
    return f"{text} ({signed if apart else 'none'})"


def _spread_text(spread: Spread, column: Column) -> str:
    return column.text(spread.mean) + ("" if spread.sd is None else f" ± {column.text(spread.sd)}")


def _reach(outcome: Outcome, training: Training) -> str:
    try:
        reached = outcome.reached(training.name)
    except ValueError:
        return f"{ABSENT} (a score has no logarithm)"
    if not reached:
        return ABSENT
    there = [images for images in reached if images is not None]
    if not there:
        return "not reached"
    spread = Spread(tuple(there))
    firsts = [curve[0][0] for curve in training.curves]
    at_once = all(images in (None, first) for images, first in zip(reached, firsts, strict=True))
    spread_text = "" if spread.sd is None else f" ± {spread.sd:,.0f}"
    text = f"{'≤ ' if at_once else ''}{spread.mean:,.0f}{spread_text}"
    times = outcome.trainings[outcome.baseline].images / spread.mean
    some = f", {len(there)} of {len(reached)} runs" if len(there) < len(reached) else ""
    return f"{text} ({times:.2f}×{some})"


def _rate(outcome: Outcome, training: Training) -> str:
    baseline = outcome.trainings[outcome.baseline].rate
    if training.rate is None or baseline is None:
        return ABSENT
    ratio = Spread(tuple(value / baseline.mean for value in training.rate.values))
    return f"{ratio.mean:.2f}" + ("" if ratio.sd is None else f" ± {ratio.sd:.2f}")
