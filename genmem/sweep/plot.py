"""The plot of a sweep: score against images seen, mean and band over seeds."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev
from typing import Any

from genmem.comparing.statistics import mean_curve
from genmem.sweep.outcome import Outcome, Training

INSTALL = "no plot: matplotlib is not installed; `pip install 'genmem[report]'` brings it"

COLOURS = 10
STYLES = ("-", "--", ":", "-.")


def plot(outcome: Outcome, path: Path) -> str | None:
    """Write a PNG; returns why there is none, where there is none."""
    drawn = [one for one in outcome.trainings.values() if mean_curve(one.curves)]
    if not drawn:
        return "no plot: no run is complete yet"
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return INSTALL
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, training in enumerate(drawn):
        # There are ten colours; further lines are told apart by their dashes.
        style = STYLES[number // COLOURS % len(STYLES)]
        _draw(axes, training, style, bold=training.name == outcome.baseline)
    mark = outcome.mark()
    if mark is not None:
        axes.axhline(mark, color="0.5", linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="images seen", ylabel=outcome.score, title=outcome.name)
    _label(axes)
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize="small")
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=150)
    partial.replace(path)
    return None


def _draw(axes: Any, training: Training, style: str, *, bold: bool) -> None:
    """One configuration: its mean, and one standard deviation around it."""
    curve = mean_curve(training.curves)
    images, means = [mark for mark, _ in curve], [score for _, score in curve]
    width = 2.5 if bold else 1.5
    (line,) = axes.plot(images, means, style, label=training.name, linewidth=width, marker=".")
    if len(training.curves) > 1:
        tables = [dict(one) for one in training.curves]
        spreads = [stdev([table[mark] for table in tables]) for mark in images]
        low = [max(mean - sd, mean / 10) for mean, sd in zip(means, spreads, strict=True)]  # the axis is log
        high = [mean + sd for mean, sd in zip(means, spreads, strict=True)]
        axes.fill_between(images, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _label(axes: Any) -> None:
    """Plain numbers at 1, 2 and 5; at any even steps where an axis is too short for those."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
