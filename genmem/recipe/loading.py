"""The way from a file to a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from genmem.contracts import EncoderConfig
from genmem.host import Catalog, load_catalog
from genmem.recipe.checks import check
from genmem.recipe.data_table import DataTable
from genmem.recipe.errors import Problem, RecipeError
from genmem.recipe.overrides import apply_overrides
from genmem.recipe.reading import Document, read, read_text
from genmem.recipe.seats import Seat, seat
from genmem.recipe.structure import Reader
from genmem.recipe.tables import Recipe


def load(
    source: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    catalog: Catalog | None = None,
    *,
    run_plugins: bool = True,
) -> Recipe:
    """The recipe in a file, or the shipped recipe of this name, resolved and checked.

    Args:
        source: A file, or the name of a shipped recipe.
        overrides: `--table.key=value`, over everything the files say.
        plugins: Un-packaged plugin files to load besides those the recipe names.
        catalog: What there is to name; found on this machine if absent.
        run_plugins: Whether plugin files the recipe names are run. False for a recipe that nobody
            asked to run, that of a run folder say: then each must be among `plugins`, by its name.

    Raises:
        RecipeError: Everything that is wrong with the recipe, at once.
    """
    return _resolve(read(source), overrides, plugins, catalog, run_plugins)


def loads(
    text: str,
    name: str,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    catalog: Catalog | None = None,
) -> Recipe:
    """The recipe in a text, resolved and checked; `name` is the run's unless the text gives one.

    Raises:
        RecipeError: Everything that is wrong with the recipe, at once.
    """
    return _resolve(read_text(text, name), overrides, plugins, catalog, run_plugins=True)


@attrs.frozen(kw_only=True)
class _DataAlone:
    data: DataTable


@attrs.frozen(kw_only=True)
class _EncoderAlone:
    encoder: Seat[EncoderConfig] = seat("encoder")  # noqa: RUF009 - an attrs field


def load_data(
    raw: Mapping[str, Any],
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    catalog: Catalog | None = None,
) -> DataTable:
    """A `[data]` table alone, for commands that need no more of a recipe; overrides begin with data.

    Raises:
        RecipeError: Everything that is wrong with it, at once.
    """
    found: DataTable = _load_alone(_DataAlone, "data", raw, overrides, plugins, catalog)
    return found


def load_encoder(
    raw: Mapping[str, Any],
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    catalog: Catalog | None = None,
) -> Seat[EncoderConfig]:
    """An encoder alone, {"use": …} and its settings; overrides begin with encoder.

    Raises:
        RecipeError: Everything that is wrong with it, at once.
    """
    found: Seat[EncoderConfig] = _load_alone(_EncoderAlone, "encoder", raw, overrides, plugins, catalog)
    return found


def _load_alone(
    cls: type[Any],
    key: str,
    raw: Mapping[str, Any],
    overrides: Sequence[str],
    plugins: Sequence[Path],
    catalog: Catalog | None,
) -> Any:
    """The field `key` of a recipe that has no other."""
    document = Document(raw={key: dict(raw)}, name=key, file="command line", origins={})
    document, problems = apply_overrides(document, overrides)
    catalog, broken = _with_files(document, plugins, catalog)
    reader = Reader(catalog)
    read_ = reader.read(cls, document.raw)
    faults = [Problem(document.origin(fault.path), fault.message, fault.path) for fault in reader.faults]
    problems += broken + faults
    if problems or not isinstance(read_, cls):
        raise RecipeError(problems)
    return getattr(read_, key)


def _resolve(
    document: Document,
    overrides: Sequence[str],
    plugins: Sequence[Path],
    catalog: Catalog | None,
    run_plugins: bool,
) -> Recipe:
    document, problems = apply_overrides(document, overrides)
    files, refused = _plugin_files(document, plugins, run_plugins)
    catalog, broken = _with_files(document, files, catalog)
    raw = {"name": document.name, **document.raw}
    if files:
        raw["plugins"] = [str(file) for file in files]
    reader = Reader(catalog)
    read_ = reader.read(Recipe, raw)
    faults = [*reader.faults, *check(read_)]
    problems += refused + broken
    problems += [Problem(document.origin(fault.path), fault.message, fault.path) for fault in faults]
    if problems or not isinstance(read_, Recipe):
        raise RecipeError(problems)
    return read_


def _plugin_files(
    document: Document, plugins: Iterable[Path], run_plugins: bool
) -> tuple[list[Path], list[Problem]]:
    """Every un-packaged plugin to load, each once, and those that are not to be run unasked."""
    given = {path.resolve(): None for path in plugins}
    named = document.raw.get("plugins", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        return list(given), []
    paths = [Path(one).resolve() for one in named]
    if run_plugins:
        return list({**given, **dict.fromkeys(paths)}), []
    origin = document.origin(("plugins",))
    passed = {path.name for path in given}
    kept = Path(document.file).parent / "plugins"  # where a run keeps copies
    problems = [
        Problem(origin, f"needs the plugin {path.name}, which is not run unasked; pass --plugin {file}")
        for path in paths
        for file in [kept / path.name if (kept / path.name).is_file() else path]
        if path.name not in passed
    ]
    return list(given), problems


def _with_files(
    document: Document, files: Sequence[Path], catalog: Catalog | None
) -> tuple[Catalog, list[Problem]]:
    """The catalog with these files; a file that was asked for and does not load is a problem."""
    origin = document.origin(("plugins",))
    missing = [file for file in files if not file.is_file()]
    there = [file for file in files if file not in missing]
    catalog = load_catalog(there) if catalog is None else catalog.with_files(there)
    problems = [Problem(origin, f"no such plugin file: {file}", ("plugins",)) for file in missing]
    for plugin in catalog.plugins:
        if plugin.file in there and plugin.status == "broken":
            problems.append(Problem(origin, f"{plugin} is broken: {plugin.error}", ("plugins",)))
    return catalog, problems
