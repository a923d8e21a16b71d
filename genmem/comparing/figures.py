"""The charts of one comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import attrs

from genmem.comparing.charts import Axis, Dots, Series, curves, dots
from genmem.comparing.comparison import HELD_OUT_LOSS, Comparison, curve_keys
from genmem.comparing.groups import Group
from genmem.comparing.standing import Entry
from genmem.comparing.statistics import mean_curve
from genmem.comparing.words import images_text, score_text, short_text
from genmem.scoring.table import Column


@attrs.frozen(kw_only=True)
class Chart:
    """A drawing and what stands below it."""

    svg: str
    caption: str


@attrs.frozen(kw_only=True)
class Pair:
    """One score against images and against FLOPs."""

    title: str
    images: Chart
    flops: Chart | None


def score_charts(comparison: Comparison) -> Iterator[Chart]:
    """One for each score that ranks: every configuration, its runs and their spread."""
    standing = comparison.standing
    entries = [entry for task in standing.tasks for entry in task.entries]
    for column in standing.columns:
        there = [entry for entry in entries if column.key in entry.figures]
        if column.better == "neither" or not there:
            continue
        rows = [_dots(comparison, entry, column) for entry in there]
        better = f"{column.better} is better"
        said = f"{column.title}, {better}: " + "; ".join(f"{row.name} {row.said}" for row in rows)
        floor = there[0].floor.get(column.key)
        yield Chart(svg=dots(rows, _short(column), said, floor), caption=f"{column.title} ({better})")


def curve_charts(comparison: Comparison) -> Iterator[Pair]:
    """One pair for each score along the training, the one compared by first."""
    titles = {column.key: column.title for column in comparison.standing.columns}
    for key in curve_keys(comparison):
        title = "held-out loss" if key == HELD_OUT_LOSS else titles.get(key, key)
        mark = comparison.mark if key == comparison.curve else None
        up = Axis(title=title, say=_number)
        series = [_series(number, group, key, 1.0) for number, group in enumerate(comparison.groups)]
        said = f"{title} against images seen. {_said(series)}"
        images = Chart(
            svg=curves(series, Axis(title="images seen", say=images_text), up, said, mark),
            caption=f"{title} against images seen",
        )
        yield Pair(title=title, images=images, flops=_against_flops(comparison, key, title, up, mark))


def spectrum_chart(comparison: Comparison) -> Chart | None:
    """Singular values of the banks; None where no run has one that says them."""
    series = []
    for number, group in enumerate(comparison.groups):
        values = spectrum_of(group.memory)
        points = tuple((float(place), value) for place, value in enumerate(values, 1))
        if points:
            series.append(Series(name=group.name, index=number, points=points))
    if not series:
        return None
    said = "Singular values of the bank, largest first. " + "; ".join(
        f"{one.name} from {one.points[0][1]:.3g} to {one.points[-1][1]:.3g} over {len(one.points)}"
        for one in series
    )
    across = Axis(title="component", say=_number, logarithmic=False)
    drawn = curves(series, across, Axis(title="singular value", say=_number), said)
    return Chart(svg=drawn, caption="Singular values of the bank's rows about their mean, largest first")


def spectrum_of(memory: Mapping[str, Any] | None) -> list[float]:
    """The singular values a scoring recorded, as far as they are above 0."""
    values = (memory or {}).get("spectrum") or []
    return [float(value) for value in values if isinstance(value, int | float) and value > 0]


def _against_flops(
    comparison: Comparison, key: str, title: str, up: Axis, mark: float | None
) -> Chart | None:
    series = []
    for number, group in enumerate(comparison.groups):
        each = comparison.costs[group.name].training_flops
        if each is None:
            return None
        series.append(_series(number, group, key, each))
    said = f"{title} against training FLOPs. {_said(series)}"
    across = Axis(title="training FLOPs", say=short_text)
    drawn = curves(series, across, up, said, mark)
    return Chart(svg=drawn, caption=f"{title} against FLOPs spent in training")


def _series(number: int, group: Group, key: str, factor: float) -> Series:
    """The mean over runs, with one standard deviation to both sides where there are several."""
    found = group.curves(key)
    mean = mean_curve(found)
    tables = [dict(curve) for curve in found]
    low: list[float] = []
    high: list[float] = []
    for images, value in mean if len(tables) > 1 else []:
        spread = stdev(table[images] for table in tables)
        least = min(table[images] for table in tables)
        low.append(value - spread if value > spread else least)  # a logarithm has no place for 0
        high.append(value + spread)
    points = tuple((images * factor, value) for images, value in mean)
    return Series(name=group.name, index=number, points=points, low=tuple(low), high=tuple(high))


def _said(series: Sequence[Series]) -> str:
    ends = (f"{one.name} ends at {one.points[-1][1]:.4g}" for one in series if one.points)
    return "; ".join(ends) + "."


def _dots(comparison: Comparison, entry: Entry, column: Column) -> Dots:
    estimate = entry.figures[column.key]
    return Dots(
        name=entry.name,
        index=comparison.groups.index(entry.group),
        mean=fmean(estimate.spread.values),
        values=estimate.spread.values if len(estimate.spread.values) > 1 else (),
        sd=estimate.spread.sd,
        said=score_text(estimate, column),
    )


def _short(column: Column) -> Any:
    return (lambda value: f"{100 * value:.3g} %") if column.unit == "share" else _number


def _number(value: float) -> str:
    if value and abs(math.log10(abs(value))) > 4:
        return f"{value:.0e}"
    return f"{value:.3g}"
