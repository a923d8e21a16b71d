"""The charts of the page: curves with bands, scores with their spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element

import attrs

from genmem.comparing import svg
from genmem.comparing.axes import Scale, spread_out

Say = Callable[[float], str]

WIDTH, HEIGHT = 560.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 118.0, 14.0, 44.0
LONGEST = 17
"""Letters of a name beside a curve; the legend has the whole."""

LABEL, ROW = 168.0, 26.0
LETTER = 8.0
"""Room for one letter of a value beside a row of dots, in the larger type of a narrow page too."""


@attrs.frozen(kw_only=True)
class Series:
    """One curve."""

    name: str
    index: int
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """The band's edges, one for each point; empty without a band."""


@attrs.frozen(kw_only=True)
class Axis:
    """What an axis shows."""

    title: str
    say: Say
    logarithmic: bool = True


@attrs.frozen(kw_only=True)
class Dots:
    """One row of a chart of scores."""

    name: str
    index: int
    mean: float
    values: tuple[float, ...]
    sd: float | None
    said: str


def curves(series: Sequence[Series], across: Axis, up: Axis, said: str, mark: float | None = None) -> str:
    """A chart of curves, named at their ends.

    Args:
        series: With at least one point in all.
        across: The horizontal axis.
        up: The vertical one.
        said: What the chart shows, for those who do not see it.
        mark: A level to draw across.
    """
    x, y = _scales(series, across, up, mark)
    chart = svg.drawing(WIDTH, HEIGHT, said)
    _frame(chart, x, y, across, up)
    if mark is not None:
        svg.line(chart, LEFT, y(mark), WIDTH - RIGHT, y(mark), "level")
    for one in series:
        _draw(chart, one, x, y)
    _name_ends(chart, series, x, y)
    return svg.written(chart)


def dots(rows: Sequence[Dots], say: Say, said: str, floor: float | None = None) -> str:
    """Scores from left to right, one row each: every run a small mark, the mean a large one."""
    height = 8 + ROW * len(rows) + 34
    values = [value for row in rows for value in (*row.values, row.mean, *_ends(row))]
    values += [] if floor is None else [floor]
    end = WIDTH - LETTER * max(len(row.said) for row in rows) - 4
    x = Scale.around(values, LABEL, end - 12, logarithmic=False, zero=min(values) >= 0)
    chart = svg.drawing(WIDTH, height, said)
    base = 8 + ROW * len(rows)
    for tick in x.ticks():
        svg.line(chart, x(tick), 4, x(tick), base, "rule")
        svg.text(chart, x(tick), base + 16, say(tick), "tick", "middle")
    if floor is not None:
        svg.line(chart, x(floor), 4, x(floor), base, "floor")
        svg.text(chart, x(floor), base + 30, "real pictures", "tick", "middle")
    for number, row in enumerate(rows):
        _dot_row(chart, row, 8 + ROW * (number + 0.5), x, end)
    return svg.written(chart)


def _dot_row(chart: Element, row: Dots, y: float, x: Scale, end: float) -> None:
    svg.text(chart, LABEL - 10, y + 4, _short(row.name, 23), "label", "end")
    if row.sd is not None:
        kind = f"spread s{row.index % svg.COLOURS}"
        svg.line(chart, x(row.mean - row.sd), y, x(row.mean + row.sd), y, kind)
    for value in row.values:
        svg.marker(chart, x(value), y, row.index, 2.6, "mark small")
    svg.marker(chart, x(row.mean), y, row.index, 4.6)
    svg.text(chart, end, y + 4, row.said, "value")


def _ends(row: Dots) -> tuple[float, ...]:
    return () if row.sd is None else (row.mean - row.sd, row.mean + row.sd)


def _scales(series: Sequence[Series], across: Axis, up: Axis, mark: float | None) -> tuple[Scale, Scale]:
    points = [point for one in series for point in one.points]
    edges = [edge for one in series for edge in (*one.low, *one.high)]
    heights = [value for _, value in points] + edges + ([] if mark is None else [mark])
    logarithmic = up.logarithmic and min(heights) > 0
    x = Scale.around((value for value, _ in points), LEFT, WIDTH - RIGHT, logarithmic=across.logarithmic)
    return x, Scale.around(heights, HEIGHT - BOTTOM, TOP, logarithmic=logarithmic)


def _frame(chart: Element, x: Scale, y: Scale, across: Axis, up: Axis) -> None:
    base = HEIGHT - BOTTOM
    for tick in y.ticks():
        svg.line(chart, LEFT, y(tick), WIDTH - RIGHT, y(tick), "rule")
        svg.text(chart, LEFT - 8, y(tick) + 4, up.say(tick), "tick", "end")
    for tick in x.ticks():
        svg.line(chart, x(tick), base, x(tick), base + 5, "axis")
        svg.text(chart, x(tick), base + 19, across.say(tick), "tick", "middle")
    svg.line(chart, LEFT, base, WIDTH - RIGHT, base, "axis")
    svg.text(chart, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, across.title, "title", "middle")
    title = svg.text(chart, 0, 0, up.title, "title", "middle")
    title.set("transform", f"translate(13,{svg.number((TOP + base) / 2)}) rotate(-90)")


def _draw(chart: Element, one: Series, x: Scale, y: Scale) -> None:
    places = [x(value) for value, _ in one.points]
    if one.low:
        low = [(place, y(value)) for place, value in zip(places, one.low, strict=True)]
        high = [(place, y(value)) for place, value in zip(places, one.high, strict=True)]
        svg.band(chart, low, high, one.index)
    points = [(place, y(value)) for place, (_, value) in zip(places, one.points, strict=True)]
    svg.path(chart, points, one.index)
    for place, height in points if len(points) <= 16 else points[-1:]:
        svg.marker(chart, place, height, one.index, 3)


def _name_ends(chart: Element, series: Sequence[Series], x: Scale, y: Scale) -> None:
    heights = spread_out([y(one.points[-1][1]) for one in series], 15, TOP + 4, HEIGHT - BOTTOM - 2)
    for one, height in zip(series, heights, strict=True):
        end = x(one.points[-1][0])
        svg.line(chart, end + 5, y(one.points[-1][1]), WIDTH - RIGHT + 10, height, "lead")
        label = svg.text(chart, WIDTH - RIGHT + 13, height + 4, _short(one.name, LONGEST), "label")
        label.set("class", f"label t{one.index % svg.COLOURS}")


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
