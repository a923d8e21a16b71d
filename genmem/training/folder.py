"""A run's folder: recipe, environment, metrics, samples, checkpoints."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli

from genmem.data.files import write_text
from genmem.host.catalog import Catalog
from genmem.recipe import RecipeError, dump, load
from genmem.recipe.tables import Recipe
from genmem.training.records import encode, keep_lines, read_lines

FREE = (
    "train.images",
    "train.save_every",
    "train.keep",
    "train.keep_every",
    "train.log_every",
    "train.inspect_every",
    "train.trace",
    "train.shard",
    "train.micro_batch",
    "train.compile",
    "train.device",
    "train.timeout",
    "data.workers",
    "data.check",
    "data.damage",
    "data.max_skipped",
    "data.cache",
    "evaluate.",
    "notify.",
    "guard.",
    "sweep.",
    "published.",
    "description",
)
"""Keys that may differ when a run goes on: they change none of its steps, but for rounding."""

PLACES = ("data.path",)
"""Keys that say where a set lies. They may differ too, since what lies there is compared."""

_ROLLBACKS = "rollbacks"
"""In a line of a log: how often the run had rolled back before. Absent: never."""


HELD_OUT = "loss/held_out"
"""A key of metrics.jsonl; every line with scores has it."""


class RunFolder:
    """Paths and small files of one run. Plain text and JSON; no account, no network."""

    def __init__(self, path: Path) -> None:
        """The folder at `path`; nothing is created yet."""
        self.path = path
        self.recipe = path / "recipe.toml"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.traces = path / "traces"
        self.hang = path / "hang"
        self.checkpoints = path / "checkpoints"
        self.scores = path / "scores.json"
        self.evaluations = path / "evaluations"
        self.damaged = path / "damaged.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.divergence = path / "divergence.json"
        self.lock = path / ".lock"
        self.rollbacks = 0
        """How often the run has rolled back; lines of the logs say so where it has."""

        self._make: Callable[[], None] = lambda: path.mkdir(parents=True, exist_ok=True)

    def begin(self, recipe: Recipe, catalog: Catalog, argv: Iterable[str]) -> None:
        """Write what was run, or check that this run may go on here.

        Raises:
            ValueError: The folder belongs to another recipe; the message names the keys.
        """
        if self.recipe.exists():
            self.check(recipe)
        environment = describe_environment(catalog) | {"argv": list(argv)}

        def make() -> None:
            self.samples.mkdir(parents=True, exist_ok=True)
            write_text(self.recipe, dump(recipe))
            self._keep_files(catalog)
            write_text(self.path / "environment.json", json.dumps(environment, indent=1))

        make()
        self._make = make

    def check(self, recipe: Recipe) -> None:
        """Whether a run of this recipe may go on here.

        Raises:
            ValueError: The folder belongs to another recipe; the message names the keys.
        """
        before, now = (_flatten(tomli.loads(dump(one))) for one in (self._recorded(recipe), recipe))
        differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        free = (*FREE, *PLACES, *places_of_memories(recipe))
        differing = [key for key in differing if not key.startswith(free)]
        if differing:
            shown = "; ".join(
                f"{key}: {before.get(key)!r} there, {now.get(key)!r} here" for key in differing[:5]
            )
            raise ValueError(
                f"{self.path} holds a run of another recipe ({shown}); "
                "give another folder with --out, or delete that one"
            )

    def _recorded(self, recipe: Recipe) -> Recipe:
        """The recipe in the folder. A key that did not exist when it was written has its default."""
        plugins = tuple(Path(file) for file in recipe.plugins)
        try:
            return load(self.recipe, plugins=plugins, run_plugins=False)
        except RecipeError as error:
            raise ValueError(
                f"{self.path} holds a run of a recipe that cannot be read here ({error}); "
                "give another folder with --out, or delete that one"
            ) from error

    def _keep_files(self, catalog: Catalog) -> None:
        for file in [plugin.file for plugin in catalog.plugins if plugin.file is not None]:
            (self.path / "plugins").mkdir(exist_ok=True)
            shutil.copy(file, self.path / "plugins" / file.name)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        self._append(self.metrics, record)

    def note_skipped(self, record: Mapping[str, Any]) -> None:
        """Append one line to skipped.jsonl."""
        self._append(self.skipped, record)

    def _append(self, file: Path, record: Mapping[str, Any]) -> None:
        """One line more. A folder that somebody removed is made again."""
        life = {_ROLLBACKS: self.rollbacks} if self.rollbacks else {}
        try:
            if not self.path.is_dir() or not self.recipe.exists():
                self._make()
            with file.open("a") as stream:
                stream.write(encode({**record, **life}))
        except OSError as error:
            raise OSError(f"{file} cannot be written: {error}; {self._last_good()}") from error

    def _last_good(self) -> str:
        from genmem.training.integrity import numbered

        found = numbered(self.checkpoints)
        return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"

    def rewind(self, images_seen: int, rollbacks: int) -> None:
        """Drop lines of the logs that a run resumed from this moment will write again."""
        self.rollbacks = rollbacks

        def is_past(record: Mapping[str, Any]) -> bool:
            return (record.get(_ROLLBACKS, 0), record["images"]) <= (rollbacks, images_seen)

        keep_lines(self.metrics, is_past)
        keep_lines(self.skipped, is_past)

    def roll_back(self, images_seen: int) -> None:
        """Drop lines of measurements after so many images; what had to be warned of stays."""
        life = self.rollbacks

        def stays(record: Mapping[str, Any]) -> bool:
            undone = record.get(_ROLLBACKS, 0) == life and record["images"] > images_seen
            return "warning" in record or not undone

        keep_lines(self.metrics, stays)
        self.rollbacks += 1

    def scored_at(self) -> int | None:
        """Images seen by the weights that scores.json is of; None where there is none."""
        try:
            images: int | None = json.loads(self.scores.read_text())["images"]
        except (OSError, ValueError, KeyError):
            return None
        return images

    def has_scores(self, images_seen: int) -> bool:
        """Whether metrics.jsonl has scores after so many images, and as many roll-backs as now."""
        here = (self.rollbacks, images_seen)
        return self.metrics.exists() and any(
            HELD_OUT in record and (record.get(_ROLLBACKS, 0), record["images"]) == here
            for record in self.records()
        )

    def records(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; a last line cut short by a kill is left out."""
        return read_lines(self.metrics)


def places_of_memories(recipe: Recipe) -> list[str]:
    """Keys that say where files of memories lie."""
    return [f"memory.{name}.{key}" for name, seat in recipe.memory.items() for key in seat.config.places]


def describe_environment(catalog: Catalog) -> dict[str, Any]:
    """Versions of everything that computes, and where."""
    from genmem.devices import fp32_in_use

    return {
        "genmem": version("genmem"),
        "torch": version("torch"),
        "fp32": fp32_in_use(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _revision(),
        "plugins": [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "sha256": plugin.sha256,
            }
            for plugin in catalog.plugins
            if plugin.status == "active"
        ],
    }


def _revision() -> str | None:
    """The commit of this code. None where that is not known: no repository, or no git on the machine."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
