"""Files to raw tables: TOML, `extends`, and who wrote what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import attrs
import tomli

from genmem.host import did_you_mean
from genmem.recipe.errors import Origin, Path, Problem, RecipeError
from genmem.recipe.shipped import find_shipped, list_shipped

OWN = ("name", "description", "published")
"""Keys that belong to one file: a recipe that extends it has its own."""

KEY = r"""[ \t]*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')[ \t]*"""
HEADER = re.compile(rf"[ \t]*\[({KEY}(?:\.{KEY})*)\][ \t]*(?:#.*)?")
ASSIGNMENT = re.compile(rf"({KEY}(?:\.{KEY})*)=")


@attrs.frozen(kw_only=True)
class Document:
    """The raw tables of a recipe, `extends` followed."""

    raw: dict[str, Any]
    name: str
    """Of the run, unless the recipe gives one."""

    file: str
    origins: Mapping[Path, Origin]

    def origin(self, path: Path) -> Origin:
        """Who wrote the value at this place, or the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return Origin(self.file)


def read(source: str | File) -> Document:
    """The recipe in a file, or the shipped recipe of this name.

    Raises:
        RecipeError: There is no such file, it is not TOML, or `extends` leads nowhere.
    """
    file = File(source)
    if not file.is_file():
        shipped = find_shipped(str(source))
        if shipped is None:
            near = did_you_mean(str(source), list_shipped())
            message = f"no such file, and no shipped recipe of that name{near or _way_out(file)}"
            raise RecipeError([Problem(Origin(str(source)), message)])
        file = shipped
    return _read_file(file, ())


def read_text(text: str, name: str) -> Document:
    """The recipe in a text; files it names are relative to the current folder.

    Raises:
        RecipeError: It is not TOML, or `extends` leads nowhere.
    """
    return _follow(_parse(text, name, name, File()), File(), ())


def _way_out(path: File) -> str:
    if (path / "recipe.toml").is_file():
        return f"; a run's recipe is {path / 'recipe.toml'}"
    return "; `genmem recipe list` shows what is shipped"


def _read_file(file: File, chain: tuple[File, ...]) -> Document:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([Problem(Origin(str(file)), f"cannot be read: {error}")]) from error
    document = _parse(text, file.stem, str(file), file.parent)
    return _follow(document, file.parent, (*chain, file.resolve()))


def _parse(text: str, name: str, file: str, folder: File) -> Document:
    try:
        raw = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise RecipeError([Problem(Origin(file), f"not TOML: {error}")]) from error
    if isinstance(raw.get("plugins"), list):
        raw["plugins"] = [str((folder / p).resolve()) if isinstance(p, str) else p for p in raw["plugins"]]
    _resolve_beside(raw, folder)
    origins = {path: Origin(file, line) for path, line in lines_of(text).items()}
    return Document(raw=raw, name=name, file=file, origins=origins)


def _resolve_beside(raw: dict[str, Any], folder: File) -> None:
    """Files that [sweep.beside] names stand relative to the recipe; other names are shipped recipes."""
    sweep = raw.get("sweep")
    beside = sweep.get("beside") if isinstance(sweep, dict) else None
    if isinstance(beside, dict):
        files = {key: folder / value for key, value in beside.items() if isinstance(value, str)}
        beside.update({key: str(file.resolve()) for key, file in files.items() if file.is_file()})


def _follow(document: Document, folder: File, chain: tuple[File, ...]) -> Document:
    """The document over what it extends."""
    if "extends" not in document.raw:
        return document
    value = document.raw.pop("extends")
    file = _extended(value, folder)
    problem = ""
    if file is None:
        problem = f"extends {value!r}, which is no file beside it and no shipped recipe"
        problem += did_you_mean(str(value), list_shipped()) or _way_out(folder / str(value))
    elif file.resolve() in chain:
        problem = "extends itself: " + " -> ".join(one.name for one in (*chain, file))
    if file is None or problem:
        raise RecipeError([Problem(document.origin(("extends",)), problem, ("extends",))])
    return overlay(_read_file(file, chain), document)


def _extended(value: Any, folder: File) -> File | None:
    if not isinstance(value, str):
        return None
    beside = folder / value
    return beside if beside.is_file() else find_shipped(value)


def overlay(under: Document, over: Document) -> Document:
    """`over` laid over `under`: tables join key by key, a table with another `use` replaces."""
    origins = dict(under.origins)
    raw = {key: value for key, value in under.raw.items() if key not in OWN}
    for key in OWN:
        origins.pop((key,), None)
    own = dict(over.raw)
    if isinstance(own.get("plugins"), list) and isinstance(raw.get("plugins"), list):
        own["plugins"] = [*raw["plugins"], *own["plugins"]]
    merged = merge(raw, own, (), origins)
    return attrs.evolve(over, raw=merged, origins={**origins, **over.origins})


def merge(
    under: dict[str, Any], over: Mapping[str, Any], path: Path, origins: dict[Path, Origin]
) -> dict[str, Any]:
    """`over` laid over `under`, table by table; the origins of what is replaced are forgotten."""
    merged = dict(under)
    for key, value in over.items():
        old = under.get(key)
        place = (*path, key)
        if isinstance(value, dict) and isinstance(old, dict) and not _replaces(value, old):
            merged[key] = merge(old, value, place, origins)
            continue
        for known in [known for known in origins if known[: len(place)] == place]:
            del origins[known]
        merged[key] = value
    return merged


def _replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Settings of one component mean nothing to another."""
    return "use" in new and "use" in old and new["use"] != old["use"]


def lines_of(text: str) -> dict[Path, int]:
    """{place: line} of the tables and keys in a TOML text, as far as its lines tell."""
    lines: dict[Path, int] = {}
    table: Path = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        quotes = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
        if inside:
            inside = "" if quotes == inside else inside
            continue
        inside = quotes
        if line.lstrip().startswith("[["):
            table = ("[[]]",)
        elif header := HEADER.fullmatch(line):
            table = _keys(header[1])
            lines.setdefault(table, number)
        elif assignment := ASSIGNMENT.match(line):
            lines.setdefault((*table, *_keys(assignment[1])), number)
    return lines


def _keys(text: str) -> Path:
    return tuple(key.strip().strip("\"'") for key in re.findall(KEY, text))
