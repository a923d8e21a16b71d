"""Numbers as people read them."""

from __future__ import annotations

from genmem.comparing.comparison import Comparison, Reached
from genmem.comparing.costs import Costs
from genmem.comparing.groups import Estimate, Group
from genmem.comparing.statistics import Spread
from genmem.profiling.report import format_bytes, format_count
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import Better, Column

ABSENT = "–"
ARROWS: dict[Better, str] = {"lower": " ↓", "higher": " ↑", "neither": ""}


def score_text(estimate: Estimate | None, column: Column) -> str:
    """Mean ± standard deviation."""
    if estimate is None:
        return ABSENT
    spread = estimate.spread
    return column.text(spread.mean) + ("" if spread.sd is None else f" ± {column.text(spread.sd)}")


def repeated_text(group: Group) -> str:
    """What a configuration's scores were repeated over."""
    runs, noises = len(group.runs), len(group.protocol.seeds)
    seeds = f"{runs} seed{'s' if runs > 1 else ''}"
    return f"{seeds} × {noises} noises" if noises > 1 else seeds


def reach_text(comparison: Comparison, group: Group) -> str:
    """Images to the mark, and how many times fewer than the baseline saw."""
    reached = comparison.reached(group)
    if reached is None:
        return ABSENT
    spread = reached.spread
    if spread is None:
        return "not reached"
    images = f"{'≤ ' if reached.at_once else ''}{images_text(spread.mean)}"
    times = comparison.standing.baseline.images / spread.mean
    return f"{images} ({times:.2f}×{_some(reached)})"


def _some(reached: Reached) -> str:
    there = sum(images is not None for images in reached.runs)
    return "" if there == len(reached.runs) else f", {there} of {len(reached.runs)} runs"


def images_text(images: float) -> str:
    """12 300 is "12.3K"."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if images >= size:
            return f"{images / size:.3g}{sign}" if images < 1000 * size else f"{images / size:,.0f}{sign}"
    return f"{images:.3g}"


def rate_text(rate: Spread | None) -> str:
    """Images a second."""
    if rate is None:
        return ABSENT
    return f"{rate.mean:,.0f}" + ("" if rate.sd is None else f" ± {rate.sd:,.0f}")


def short_text(count: float) -> str:
    """The same on an axis: "200G"."""
    size, _, prefix = format_count(count).partition(" ")
    return f"{float(size):g}{prefix}"


def count_text(count: float | None, unit: str = "") -> str:
    """A count with a prefix, or a dash."""
    return ABSENT if count is None else f"{format_count(count)}{unit}"


def bytes_text(count: int | None) -> str:
    """Bytes with a prefix, or a dash."""
    return ABSENT if count is None else format_bytes(count)


def training_text(costs: Costs, group: Group) -> str:
    """FLOPs of the whole training."""
    per_image = costs.training_flops
    return count_text(None if per_image is None else per_image * group.images, "FLOPs")


def protocol_text(protocol: Protocol) -> str:
    """A protocol in one sentence."""
    sampler = dict(protocol.sampler)
    steps = f"{protocol.steps} network evaluations" if protocol.steps else "evaluations as a sample needs"
    guidance = "no guidance"
    if protocol.guidance is not None:
        told = [f"{key} {value}" for key, value in dict(protocol.guidance).items() if key != "use"]
        guidance = f"guidance {protocol.guidance['use']} ({', '.join(told)})"
    seeds = ", ".join(map(str, protocol.seeds))
    several = "s" if len(protocol.seeds) > 1 else ""
    halves = "" if protocol.memory is None else "; held-out rows are of one half of them, against the other"
    return (
        f"{protocol.samples:,} samples a set, made by {sampler['use']} with {steps} and {guidance}, "
        f"from weights “{protocol.weights}” in {protocol.precision}, noise of seed{several} {seeds}, "
        f"against {protocol.reference['name']} ({protocol.reference['count']:,} pictures{halves})"
    )
