"""Everything a comparison says, as data: standing, curves, images to a score, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import attrs

from genmem.comparing.costs import Costs, costs_of
from genmem.comparing.folders import Finished, Scoring, read_run
from genmem.comparing.groups import Group, group_runs
from genmem.comparing.protocols import comparable, mismatch, shared, task_of
from genmem.comparing.standing import Standing, stand
from genmem.comparing.statistics import Spread, images_to, mean_curve
from genmem.scoring.protocol import Protocol

HELD_OUT_LOSS = "loss/held_out"


@attrs.frozen(kw_only=True)
class Reached:
    """Images a configuration took to the mark."""

    runs: tuple[float | None, ...]
    """Of each run; None where it never got there."""

    at_once: bool
    """Whether its first mark was there already: an upper bound then."""

    @property
    def spread(self) -> Spread | None:
        """Over the runs that got there."""
        there = tuple(images for images in self.runs if images is not None)
        return Spread(there) if there else None


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """Configurations side by side."""

    standing: Standing
    costs: dict[str, Costs]
    """{configuration: its costs}."""

    curve: str | None
    """The score that curves and the mark go by; None where there are no curves to compare."""

    mark: float | None
    """The score that images are counted to."""

    mark_of: str
    """Where it comes from, in words."""

    trouble: str
    """Why curves are not compared; empty where they are."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Configurations, the baseline first."""
        return self.standing.groups

    def reached(self, group: Group) -> Reached | None:
        """None where there is nothing to count, or the task is another than the baseline's."""
        if self.curve is None or self.mark is None or not self._like_baseline(group):
            return None
        curves = group.curves(self.curve)
        if not curves or any(value <= 0 for curve in curves for _, value in curve):
            return None
        found = tuple(images_to(curve, self.mark) for curve in curves)
        firsts = [curve[0][0] for curve in curves]
        return Reached(runs=found, at_once=all(a in (None, b) for a, b in zip(found, firsts, strict=True)))

    def _like_baseline(self, group: Group) -> bool:
        return task_of(group.protocol) == task_of(self.standing.baseline.protocol)


def compare(
    paths: Sequence[Path],
    *,
    by: str | None = None,
    reach: float | None = None,
    force: bool = False,
    plugins: tuple[Path, ...] = (),
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """Read, choose scorings, group, rank, count costs.

    Args:
        paths: Run folders; the first is the baseline.
        by: The score to rank by.
        reach: The score to count images to; the baseline's last if absent.
        force: Put scores of different protocols side by side.
        plugins: Un-packaged plugin files the runs were made with.
        tell: For a progress bar.

    Raises:
        FileNotFoundError: A folder that is no run, or has no scores.
        ValueError: A damaged file, one run twice, or an unknown score.
        ProtocolMismatch: Runs that were not scored in one way.
    """
    runs = _read(paths)
    chosen, forced = choose(runs, force=force)
    standing = stand(group_runs(runs, chosen), by, forced=forced)
    costs = {}
    for number, group in enumerate(standing.groups):
        tell("costs", number, len(standing.groups))
        costs[group.name] = costs_of(group, plugins)
    tell("costs", len(standing.groups), len(standing.groups))
    curve, trouble = _curve(standing, force=force)
    mark, told = _mark(standing, curve, reach)
    return Comparison(standing=standing, costs=costs, curve=curve, mark=mark, mark_of=told, trouble=trouble)


def choose(runs: Sequence[Finished], *, force: bool) -> tuple[list[Scoring], bool]:
    """The scoring of each run that is compared, and whether their ways differ.

    Of the ways of scoring that all runs have, the one with the most sets of noise, then the most
    samples, then the newest.

    Raises:
        ProtocolMismatch: There is none, and it is not forced.
    """
    ways = {str(run.path): [one.protocol for one in run.scorings] for run in runs}
    common = shared(ways)
    if common:
        way = max(common, key=_weight)
        return [next(one for one in run.scorings if comparable(one.protocol, way)) for run in runs], False
    if not force:
        raise mismatch({name: sorted(found, key=_weight, reverse=True) for name, found in ways.items()})
    return [max(run.scorings, key=lambda one: _weight(one.protocol)) for run in runs], True


def _weight(protocol: Protocol) -> tuple[int, int]:
    return len(protocol.seeds), protocol.samples


def _read(paths: Sequence[Path]) -> list[Finished]:
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise ValueError(f"{path} is named twice")
        seen.add(path.resolve())
    return [read_run(path) for path in paths]


def _curve(standing: Standing, *, force: bool) -> tuple[str | None, str]:
    """The score that curves are drawn of, or why there is none."""
    groups = standing.groups
    there = [key for key in _keys(groups[0]) if all(group.curves(key) for group in groups)]
    if not there:
        return None, "these runs have no score along their training in common"
    finals = [run.final for group in groups for run in group.runs if run.final is not None]
    if finals and not force:
        apart = next((one for one in finals if not comparable(one.protocol, finals[0].protocol)), None)
        if apart is not None:
            return None, (
                "scores along the training were made under different protocols "
                f"({finals[0].protocol.digest} and {apart.protocol.digest}), so curves are not compared"
            )
    return (standing.headline.key if standing.headline.key in there else there[0]), ""


def _keys(group: Group) -> list[str]:
    """Scores along the training, in the order of the table, the held-out loss last."""
    logged = {key for record in group.first.records for key in record}
    columns = [one.key for one in group.scorings[0].table.columns if one.better == "lower"]
    return [key for key in (*columns, HELD_OUT_LOSS) if key in logged]


def curve_keys(comparison: Comparison) -> list[str]:
    """Every score that curves can be drawn of, the one compared by first."""
    groups = comparison.groups
    if comparison.curve is None:
        return []
    keys = [key for key in _keys(groups[0]) if all(group.curves(key) for group in groups)]
    return [comparison.curve, *(key for key in keys if key != comparison.curve)]


def _mark(standing: Standing, curve: str | None, reach: float | None) -> tuple[float | None, str]:
    if reach is not None:
        return reach, "as asked for"
    baseline = standing.baseline
    if curve is None or not baseline.curves(curve):
        return None, ""
    last = fmean(one[-1][1] for one in baseline.curves(curve))
    mean = mean_curve(baseline.curves(curve))
    return (mean[-1][1] if mean else last), f"the last of {baseline.name}"
