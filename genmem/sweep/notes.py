"""What must be said below the table of a sweep: the numbers alone do not say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from genmem.comparing.statistics import LEVEL, MARKS, late_share, mean_curve
from genmem.scoring.protocol import difference
from genmem.scoring.table import SAMPLES
from genmem.sweep.outcome import Outcome, Training


def notes(outcome: Outcome) -> Iterator[str]:
    """What must be said with the numbers."""
    baseline = outcome.trainings[outcome.baseline]
    yield (
        f"Mean ± standard deviation over seeds; in brackets the difference from {outcome.baseline!r}, "
        '"none" where it is no more than 2·√(sd²/n + sd²/n) of the two.'
    )
    if any(len(one.curves) == 1 for one in outcome.trainings.values()):
        yield "One seed has no spread: it is compared with nothing."
    yield from _about_marks(outcome, baseline)
    doubt = doubt_rates(outcome)
    if doubt:
        yield f"images/s, as multiples of the baseline's, are unreliable: {doubt}."
    yield from _about_floors(outcome)
    yield from _about_lengths(outcome, baseline)
    yield from _about_protocols(outcome)
    if outcome.missing:
        shown = ", ".join(outcome.missing[:5]) + (", …" if len(outcome.missing) > 5 else "")
        yield f"Not there yet: {len(outcome.missing)} of the scorings ({shown})."


def level_text(outcome: Outcome) -> str:
    """Whether the baseline had levelled off."""
    curve = mean_curve(outcome.trainings[outcome.baseline].curves)
    try:
        share = late_share(curve)
    except ValueError as error:
        return f"Whether the baseline has levelled off cannot be told: {error}."
    if share is None:
        return "Whether the baseline has levelled off cannot be told: too few marks, or it did not improve."
    said = f"the last third of its images brought {100 * share:.1f} % of its fall in log {outcome.score}"
    if share <= LEVEL:
        return f"The baseline has levelled off: {said} (limit {100 * LEVEL:.0f} %)."
    return f"**The baseline is undertrained**: {said} (limit {100 * LEVEL:.0f} %)."


def doubt_rates(outcome: Outcome) -> str:
    """Why rates are not to be relied on; empty where they are."""
    company = [number for one in outcome.trainings.values() for number in one.company]
    if any(number is not None and number > 1 for number in company):
        return "runs shared the machine"
    return "it is not known where some of the runs ran" if None in company else ""


def _about_marks(outcome: Outcome, baseline: Training) -> Iterator[str]:
    mark = outcome.mark()
    if mark is None:
        yield "The baseline is not complete: there is nothing to compare with yet."
        return
    yield (
        f"Images to baseline: when a run first comes down to a {outcome.score} of {mark:.4g}, the mean "
        "of the baseline's last marks, interpolated in the logarithms of score and images; × is how many "
        "times fewer than the baseline's own."
    )
    yield level_text(outcome)
    count = min((len(curve) for curve in baseline.curves), default=0)
    if count < MARKS:
        yield f"The curves have {count} marks, fewer than {MARKS}: interpolation between them is coarse."


def _about_floors(outcome: Outcome) -> Iterator[str]:
    for floor in [row.floor for row in outcome.samples if row.floor][:1]:
        yield f"Floor, the training pictures' own score: {_told(outcome, floor)}."
    for row in [row for row in outcome.rows if row.kind != SAMPLES and row.floor][:1]:
        yield (
            "Held-out rows: made of one half of the held-out pictures, scored against the other; the floor "
            f"there is {_told(outcome, row.floor)}. They are compared with nothing."
        )


def _told(outcome: Outcome, floor: Mapping[str, float]) -> str:
    return ", ".join(f"{one.title} {one.text(floor[one.key])}" for one in outcome.columns if one.key in floor)


def _about_lengths(outcome: Outcome, baseline: Training) -> Iterator[str]:
    lengths = {one.name: one.images for one in outcome.trainings.values()}
    if set(lengths.values()) == {baseline.images}:
        yield f"Every run saw {baseline.images:,} images."
    else:
        yield "Images seen: " + ", ".join(f"{name} {images:,}" for name, images in lengths.items()) + "."


def _about_protocols(outcome: Outcome) -> Iterator[str]:
    """How each protocol differs from the first."""
    protocols = {row.protocol.digest: row.protocol for row in outcome.rows}
    (first, *others) = protocols or [""]
    for digest in others:
        apart = difference(protocols[first], protocols[digest])
        told = "; ".join(_apart(path, *sides) for path, sides in apart.items() if not _inside(path, apart))
        yield f"Protocol {digest} differs from {first}: {told}."


def _inside(path: str, apart: Mapping[str, object]) -> bool:
    """Whether it is part of a memory that one side has and the other has not."""
    return "memory" in apart and path.startswith("memory.")


def _apart(path: str, here: object, there: object) -> str:
    if path == "memory":
        return "no memory, not one" if there is None else "a memory, not none"
    return f"{path} {there!r}, not {here!r}"
