"""`--a.b=c`: overrides from the command line, typed by the same rules as the file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import tomli

from genmem.host import did_you_mean
from genmem.recipe.errors import Origin, Path, Problem
from genmem.recipe.reading import OWN, Document, overlay
from genmem.recipe.shapes import Shape, fields_of, key_of, shape_of
from genmem.recipe.tables import Recipe


@attrs.frozen
class Override:
    """One override."""

    text: str
    """As it was written."""

    path: Path
    value: Any


def parse_override(text: str) -> Override | None:
    """`--a.b=c` or `a.b=c`; None where it has no key or no `=`."""
    key, equals, value = text.removeprefix("--").partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path):
        return None
    return Override(text, path, parse_value(value))


def parse_value(text: str) -> Any:
    """The value by TOML's grammar; what is no TOML is text, and so are dates."""
    try:
        parsed = tomli.loads(f"inline = {{value = {text}}}")["inline"]
    except tomli.TOMLDecodeError:
        return text
    value = parsed.get("value")
    dated = isinstance(value, (datetime.date, datetime.time))
    return text if dated or len(parsed) > 1 else value


def apply_overrides(document: Document, texts: Sequence[str]) -> tuple[Document, list[Problem]]:
    """The document with the overrides laid over it, in order, those of `use` first.

    Keys are checked when the result is read, like those of a file; only a new named table, which
    a file may have and a command line may not misspell, is looked at here.
    """
    parsed = {text: parse_override(text) for text in texts}
    problems = [
        Problem(_origin(document, text), "an override is written --table.key=value")
        for text, override in parsed.items()
        if override is None
    ]
    overrides = [override for override in parsed.values() if override]
    for override in sorted(overrides, key=lambda one: one.path[-1] != "use"):
        misplaced = _misplaced(override, document.raw)
        if misplaced:
            problems.append(Problem(_origin(document, override.text), misplaced, override.path))
        else:
            document = _lay(document, override)
    return document, problems


def _origin(document: Document, text: str) -> Origin:
    return Origin(f"{document.file} {text}")


def _lay(document: Document, override: Override) -> Document:
    raw: Any = override.value
    for key in reversed(override.path):
        raw = {key: raw}
    origin = _origin(document, override.text)
    origins = {override.path: origin}
    if override.path[-1] == "use":  # it stands for the whole table
        origins[override.path[:-1]] = origin
    over = attrs.evolve(document, raw=raw, origins=origins)
    kept = {key: document.raw[key] for key in OWN if key in document.raw}
    if override.path[0] in METHOD:
        kept.pop("published", None)
    laid = overlay(document, over)
    return attrs.evolve(laid, raw={**kept, **laid.raw})


METHOD = ("backbone", "interpolant", "condition", "memory", "objective", "optimizer", "ema")
"""Tables without which published numbers are those of another run; an override there takes them away."""


def _misplaced(override: Override, raw: Mapping[str, Any]) -> str:
    """Why there is no place for an override: it leads into a value, or to a name that is not there."""
    table: Any = raw
    for depth, key in enumerate(override.path):
        place = ".".join(override.path[:depth])
        if not isinstance(table, Mapping):
            return f"{place} is a value, not a table"
        if key not in table and _is_named(override.path[:depth]) and override.path[depth + 1 :] != ("use",):
            names = ", ".join(table) or "none"
            return f"there is no [{place}.{key}]{did_you_mean(key, table) or f'; there are: {names}'}"
        table = table.get(key, {})
    return ""


def _is_named(path: Path) -> bool:
    """Whether the tables at this place have names of the recipe's own choosing."""
    cls: type[Any] | None = Recipe
    named = False
    for key in path:
        if named:  # this key is such a name
            named = False
            continue
        shape = _shape(cls, key)
        if shape is None:
            return False
        named = shape.how in ("seats", "tables")
        cls = shape.of if shape.how in ("table", "tables") else None
    return named


def _shape(cls: type[Any] | None, key: str) -> Shape | None:
    fields = fields_of(cls) if cls else ()
    return next((shape_of(field) for field in fields if key_of(field) == key), None)


def is_override(text: str) -> bool:
    """Whether a word of the command line is an override: dotted, or a key at the top of a recipe."""
    override = parse_override(text)
    return override is not None and (len(override.path) > 1 or _shape(Recipe, override.path[0]) is not None)
