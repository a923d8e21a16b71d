"""SVG as an element tree, so that whatever text comes from files is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
COLOURS = 8
"""As many as the page's style sheet has: --c0 to --c7."""


def drawing(width: float, height: float, said: str) -> Element:
    """An empty drawing that tells screen readers what it shows."""
    box = f"0 0 {number(width)} {number(height)}"
    svg = Element("svg", {"viewBox": box, "role": "img", "class": "chart", "aria-label": said})
    SubElement(svg, "title").text = said
    return svg


def line(parent: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    """A straight line of a class of the style sheet."""
    ends = {"x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2)}
    return SubElement(parent, "line", {**ends, "class": kind})


def text(parent: Element, x: float, y: float, said: str, kind: str, anchor: str = "start") -> Element:
    """A line of text."""
    found = SubElement(parent, "text", {"x": number(x), "y": number(y), "class": kind, "text-anchor": anchor})
    found.text = said
    return found


def path(parent: Element, points: Sequence[tuple[float, float]], index: int) -> Element:
    """A curve in the colour and dashes of series number `index`."""
    steps = " L".join(f"{number(x)},{number(y)}" for x, y in points)
    given = {"d": f"M{steps}", "class": f"curve s{index % COLOURS}", "stroke-dasharray": dash(index)}
    return SubElement(parent, "path", given)


def band(
    parent: Element,
    low: Sequence[tuple[float, float]],
    high: Sequence[tuple[float, float]],
    index: int,
) -> None:
    """The space between two curves."""
    steps = " L".join(f"{number(x)},{number(y)}" for x, y in (*low, *reversed(high)))
    SubElement(parent, "path", {"d": f"M{steps}Z", "class": f"band s{index % COLOURS}"})


def marker(parent: Element, x: float, y: float, index: int, size: float = 4, kind: str = "mark") -> None:
    """A mark whose form differs from series to series: no reader needs its colour."""
    given = {"class": f"{kind} s{index % COLOURS}"}
    match index % 4:
        case 0:
            SubElement(parent, "circle", {"cx": number(x), "cy": number(y), "r": number(size), **given})
        case 1:
            corner = {"x": number(x - size * 0.9), "y": number(y - size * 0.9)}
            side = number(size * 1.8)
            SubElement(parent, "rect", {**corner, "width": side, "height": side, **given})
        case 2:
            top = f"M{number(x)},{number(y - size * 1.2)}"
            SubElement(
                parent,
                "path",
                {"d": f"{top} l{number(size * 1.15)},{number(size * 2)} h{number(-size * 2.3)}Z", **given},
            )
        case _:
            far = number(size * 1.3)
            d = f"M{number(x)},{number(y - size * 1.3)} l{far},{far} l-{far},{far} l-{far},-{far}Z"
            SubElement(parent, "path", {"d": d, **given})


def key(index: int) -> str:
    """The sample of a series for a legend."""
    svg = Element("svg", {"viewBox": "0 0 34 12", "class": "key", "aria-hidden": "true"})
    path(svg, [(1, 6), (33, 6)], index)
    marker(svg, 17, 6, index, 3.5)
    return written(svg)


def dash(index: int) -> str:
    """The dashes of a series."""
    return DASHES[index % len(DASHES)]


def written(svg: Element) -> str:
    """The drawing as text."""
    return ElementTree.tostring(svg, encoding="unicode")


def number(value: Any) -> str:
    """Short, and never in a locale's or scientific spelling."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
