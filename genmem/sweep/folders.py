"""What run folders hold of a sweep: which runs are complete, their scores and their curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import tomli

from genmem.data.settings import describe_settings
from genmem.recipe import Recipe, Seat, dump
from genmem.recipe.structure import NONE
from genmem.scoring.protocol import LABELS
from genmem.scoring.table import ScoreTable
from genmem.sweep.axes import SCORING, text_of
from genmem.sweep.plan import Run
from genmem.training.folder import RunFolder

TAIL = 1 << 16
"""Bytes that hold the last line of a log."""


@attrs.frozen
class Scores:
    """One scoring of a run."""

    images: int
    protocol: Mapping[str, Any]
    table: ScoreTable
    run: Mapping[str, float]
    """Numbers of the run itself, its rate say; only beside the scores that training ends with."""

    memory: Mapping[str, Any] | None = None
    """Of the memory that conditions."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Scores:
        """From scores.json, or from what `genmem evaluate --out` wrote."""
        table = ScoreTable.from_json(record["table"])
        told = record.get("run", {}), record.get("memory")
        return cls(record["images"], record["protocol"], table, *told)


class Trained:
    """One run's folder, as it is now."""

    def __init__(self, run: Run) -> None:
        """Nothing is read yet."""
        self.run = run
        self.folder = RunFolder(run.folder)

    @cached_property
    def final(self) -> Scores | None:
        """The scores training ended with; None where it has not."""
        scores = _read(self.folder.scores)
        return scores if scores and scores.images >= self.run.recipe.train.images else None

    def scores(self, setting: str) -> Scores | None:
        """The scores under a setting, if they are there and of these weights and this protocol."""
        asked = asked_of(self.run.settings[setting])
        for scores in (self.final, _read(self.file(setting))):
            fits = scores and self.final and scores.images == self.final.images
            if scores and fits and _fits(scores.protocol, asked):
                return scores
        return None

    def missing(self) -> list[str]:
        """Settings without scores."""
        return [setting for setting in self.run.settings if self.scores(setting) is None]

    def file(self, setting: str) -> Path:
        """Where scores are kept that training did not end with."""
        return self.folder.path / "evaluations" / f"{setting or 'recipe'}.json"

    def overrides(self, setting: str) -> list[str]:
        """What to change in the folder's recipe to score under a setting."""
        text = self.folder.recipe.read_text() if self.folder.recipe.exists() else dump(self.run.recipe)
        before, now = tomli.loads(text), tomli.loads(dump(self.run.settings[setting]))
        there, asked = ({key: one[key] for key in SCORING if key in one} for one in (before, now))
        return list(_changes(there, asked))

    def curve(self, score: str) -> list[tuple[int, float]]:
        """(images, score) at every mark of the log."""
        records = self.folder.records() if self.folder.metrics.exists() else []
        return [(record["images"], record[score]) for record in records if score in record]

    def images(self) -> int:
        """Images in the last whole line of the log."""
        lines = _tail(self.folder.metrics) if self.folder.metrics.exists() else []
        return int(json.loads(lines[-1])["images"]) if lines else 0


def asked_of(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the protocol of its scores: {key path: value}."""
    options = recipe.evaluate
    return {
        "sampler": _describe(recipe.sampler),
        "guidance": _describe(recipe.guidance) if recipe.guidance else None,
        "seeds": [options.seed],
        "samples": options.samples,
        "weights": options.weights,
        "conditions.rule": LABELS[options.labels],
        "features.spaces": {name: _describe(seat) for name, seat in options.encoder.items()},
        "features.lookup": options.copies,
    }


def _describe(seat: Seat[Any]) -> dict[str, Any]:
    return {"use": seat.use, **describe_settings(seat.config)}


def _fits(protocol: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    for path, value in asked.items():
        found: Any = protocol
        for key in path.split("."):
            found = found.get(key)
        if found != value:
            return False
    return True


def _tail(file: Path) -> list[bytes]:
    """The last whole lines of a file that is being written."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        return opened.read().rpartition(b"\n")[0].splitlines()


def _read(file: Path) -> Scores | None:
    try:
        return Scores.of(json.loads(file.read_text())) if file.exists() else None
    except (ValueError, KeyError, TypeError) as error:
        message = f"{file} holds no scores that can be read ({error}); delete it, and the run is scored again"
        raise ValueError(message) from error


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Overrides that lead from one raw table to the other."""
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key, NONE)
        if old == new:
            continue
        if isinstance(new, dict):
            kept = old if isinstance(old, dict) and old.get("use") == new.get("use") else {}
            yield from _changes(kept, new, f"{prefix}{key}.")
        else:
            yield f"--{prefix}{key}={text_of(new)}"
