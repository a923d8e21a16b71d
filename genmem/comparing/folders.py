"""What a run's folder holds, for comparing: recipe, every scoring of its last weights, curves, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli

from genmem.scoring.protocol import Protocol
from genmem.scoring.table import ScoreTable
from genmem.training.folder import RunFolder

Curve = list[tuple[int, float]]

RATE = "images/s"


@attrs.frozen(kw_only=True)
class Scoring:
    """One scoring of a run."""

    file: Path
    images: int
    protocol: Protocol
    table: ScoreTable
    memory: Mapping[str, Any] | None
    """What the memory that conditions is, and the pixel energy its rows carry."""

    evaluations: int | None
    """Network evaluations a sample took; None where nobody wrote them down."""

    time: float

    @classmethod
    def read(cls, file: Path, record: Mapping[str, Any]) -> Scoring:
        """From scores.json, or what `genmem evaluate` keeps."""
        return cls(
            file=file,
            images=int(record["images"]),
            protocol=Protocol.from_json(record["protocol"]),
            table=ScoreTable.from_json(record["table"]),
            memory=record.get("memory"),
            evaluations=record.get("evaluations_per_sample"),
            time=float(record.get("time", 0.0)),
        )


@attrs.frozen(kw_only=True)
class Finished:
    """A run that has scores."""

    folder: RunFolder
    recipe: Mapping[str, Any]
    """{key path: value}, resolved."""

    scorings: tuple[Scoring, ...]
    """Of the newest weights that were scored; the newest scoring first."""

    final: Scoring | None
    """What training ended with, whose way of scoring is that of the curves."""

    run: Mapping[str, float]
    """Numbers of the run itself, its rate say."""

    pictures: Mapping[str, Path]
    records: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    jobs: int | None
    """How many runs shared the machine; None where nobody knows."""

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def seed(self) -> int:
        """Of training."""
        return int(self.recipe.get("train.seed", 0))

    @property
    def images(self) -> int:
        """Images seen by the weights that were scored."""
        return self.scorings[0].images

    def curve(self, key: str) -> Curve:
        """(images, score) at every mark of the log."""
        return [(int(one["images"]), float(one[key])) for one in self.records if key in one]


def read_run(path: Path) -> Finished:
    """Read a run's folder.

    Raises:
        FileNotFoundError: No run folder, or no scores in it.
        ValueError: A file that cannot be read as what it should be.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no recipe.toml (genmem train makes one)")
    record = _json(folder.scores) if folder.scores.exists() else {}
    final = _scoring(folder.scores, record) if record else None
    files = sorted(folder.evaluations.glob("*.json"))
    found = [one for one in (final, *(_scoring(file, _json(file)) for file in files)) if one is not None]
    if not found:
        raise FileNotFoundError(f"{path} has no scores yet; `genmem evaluate {path}` makes them")
    newest = max(one.images for one in found)
    environment = path / "environment.json"
    return Finished(
        folder=folder,
        recipe=_recipe(folder.recipe),
        scorings=tuple(sorted((one for one in found if one.images == newest), key=lambda one: -one.time)),
        final=final,
        run=_numbers(record.get("run", {})),
        pictures=_pictures(path, record.get("pictures", {})),
        records=tuple(folder.records()) if folder.metrics.exists() else (),
        environment=_json(environment) if environment.exists() else {},
        jobs=_jobs(path / "sweep-jobs.json"),
    )


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{key path: value}; an empty table is one value."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _recipe(file: Path) -> dict[str, Any]:
    try:
        return flatten(tomli.loads(file.read_text()))
    except ValueError as error:
        raise ValueError(f"{file} is no recipe: {error}") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); delete it, and make it anew") from error
    if isinstance(found, dict):
        return found
    raise ValueError(f"{file} holds no JSON object; delete it, and make it anew")


def _scoring(file: Path, record: Mapping[str, Any]) -> Scoring:
    try:
        return Scoring.read(file, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} holds no scores that can be read ({error}); delete it, and score the run again"
        ) from error


def _numbers(table: Any) -> dict[str, float]:
    pairs = table.items() if isinstance(table, Mapping) else ()
    return {str(key): float(value) for key, value in pairs if isinstance(value, int | float)}


def _pictures(path: Path, named: Any) -> dict[str, Path]:
    """Those of a run's pictures that are there, inside its folder."""
    pairs = named.items() if isinstance(named, Mapping) else ()
    files = {str(name): path / str(file) for name, file in pairs}
    inside = path.resolve()
    return {
        name: file for name, file in files.items() if file.is_file() and file.resolve().is_relative_to(inside)
    }


def _jobs(file: Path) -> int | None:
    return int(_json(file)["jobs"]) if file.exists() else None
