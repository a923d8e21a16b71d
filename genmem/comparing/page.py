"""The page: one file of HTML that needs nothing beside it, no network and no JavaScript."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import attrs
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from genmem.comparing import svg
from genmem.comparing.caveats import general_caveats
from genmem.comparing.comparison import Comparison
from genmem.comparing.differences import differences, resolved
from genmem.comparing.embedding import Embedded, embed
from genmem.comparing.figures import curve_charts, score_charts, spectrum_chart
from genmem.comparing.folders import flatten
from genmem.comparing.groups import Group
from genmem.comparing.tables import sampling_table, score_table, training_table
from genmem.comparing.verdict import verdicts
from genmem.comparing.words import images_text, repeated_text

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""For the browser: whatever stands in the page, nothing may be fetched and nothing run."""

KINDS = {
    "samples": ("Samples", "Samples of {name}"),
    "neighbours": (
        "Nearest training pictures",
        "Left of each line a sample of {name}, right of it the training pictures nearest to it",
    ),
}
"""{kind of picture in a run's folder: (title, what it shows)}."""


@attrs.frozen(kw_only=True)
class Picture:
    """A grid of one configuration."""

    name: str
    alt: str
    image: Embedded | None
    trouble: str
    """Why there is none."""

    made: str


def render(comparison: Comparison, words: Sequence[str]) -> str:
    """The page as text.

    Args:
        comparison: What to show.
        words: The command line that made it, for the last line.
    """
    here = files("genmem.comparing")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8"))
    style = Markup(here.joinpath("page.css").read_text(encoding="utf-8"))
    return template.render(style=style, policy=POLICY, **_context(comparison, words))


def _context(comparison: Comparison, words: Sequence[str]) -> dict[str, Any]:
    standing, groups = comparison.standing, comparison.groups
    chart = spectrum_chart(comparison)
    return {
        "title": f"{groups[0].name} and others" if len(groups) > 3 else ", ".join(g.name for g in groups),
        "headline": standing.headline,
        "verdicts": verdicts(comparison),
        "caveats": list(general_caveats(comparison)),
        "forced": standing.forced,
        "scores": score_table(comparison),
        "score_charts": [_drawn(one) for one in score_charts(comparison)],
        "curves": [
            {"title": one.title, "charts": [_drawn(c) for c in (one.images, one.flops) if c is not None]}
            for one in curve_charts(comparison)
        ],
        "mark": None if comparison.mark is None else f"{comparison.mark:.4g}",
        "mark_of": comparison.mark_of,
        "trouble": comparison.trouble,
        "keys": [(Markup(svg.key(number)), group.name) for number, group in enumerate(groups)],
        "galleries": [(kind, KINDS[kind][0], [_picture(group, kind) for group in groups]) for kind in KINDS],
        "memories": any(group.memory for group in groups),
        "sampling": sampling_table(comparison),
        "training": training_table(comparison),
        "spectrum": None if chart is None else _drawn(chart),
        "names": [group.name for group in groups],
        "differences": differences(groups),
        "recipes": [_recipe(group, comparison) for group in groups],
        "protocols": list(_protocols(groups)),
        "command": shlex.join(words),
        "version": version("genmem"),
    }


def _drawn(chart: Any) -> dict[str, Any]:
    return {"svg": Markup(chart.svg), "caption": chart.caption}


def _picture(group: Group, kind: str) -> Picture:
    file, final = group.first.pictures.get(kind), group.first.final
    told: dict[str, str] = {"name": group.name, "alt": KINDS[kind][1].format(name=group.name), "made": ""}
    if file is None or final is None:
        return Picture(image=None, trouble="There is none in the run's folder.", **told)
    told["made"] = (
        f"After {images_text(final.images)} images, training seed {group.first.seed}, "
        f"protocol {final.protocol.digest}"
    )
    try:
        return Picture(image=embed(file), trouble="", **told)
    except ValueError as error:
        return Picture(image=None, trouble=str(error), **told)


def _recipe(group: Group, comparison: Comparison) -> dict[str, Any]:
    lines = resolved(group, comparison.standing.baseline)
    return {
        "name": group.name,
        "lines": lines,
        "marked": sum(other for _, _, other in lines),
        "folders": [str(run.path) for run in group.runs],
        "repeated": repeated_text(group),
    }


def _protocols(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """Each protocol once, with the configurations scored under it."""
    seen: dict[str, list[Group]] = {}
    for group in groups:
        seen.setdefault(group.protocol.digest, []).append(group)
    for digest, some in seen.items():
        keys = flatten(some[0].protocol.to_json())
        lines = [(key, json.dumps(value, ensure_ascii=False)) for key, value in keys.items()]
        yield {"digest": digest, "names": ", ".join(group.name for group in some), "lines": lines}
