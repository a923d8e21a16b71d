"""Run folders as training leaves them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genmem.recipe import dump, load
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import DECODE, HELD_OUT, SAMPLES, Cell, Column, Row, ScoreTable
from genmem.training import checkpoints

COLUMNS = (
    Column(key="fd/pixels", title="FD pixels"),
    Column(key="labels", title="labels", better="higher", unit="share", digits=1),
    Column(key="copies", title="copies", unit="share", digits=1),
)

SHAPES = {"sample_shape": [1, 8, 8], "num_classes": 10, "num_samples": 1437, "feature_widths": {"pca": 16}}

CURVE = ((100, 8.0), (200, 4.0), (400, 1.0), (800, 0.5))

MEMORY = {"identity": "f00d", "rows": 9, "drawn": "uniform"}

FACTS = {
    "encoder": {"name": "pca"},
    "width": 16,
    "pixel_energy": 0.85,
    "rows": 9,
    "spectrum": [4.0, 2.0, 0.5],
}


def protocol(**changes: Any) -> Protocol:
    """A way of scoring."""
    given: dict[str, Any] = {
        "sampler": {"use": "euler", "steps": 25},
        "steps": 25,
        "guidance": None,
        "conditions": {"rule": "uniform", "label": True},
        "seeds": (0,),
        "samples": 100,
        "rounding": "clamp",
        "decoder": {"use": "pixels", "weights": ""},
        "features": {"use": "pixels", "weights": ""},
        "reference": {"name": "held-out", "count": 360, "hash": "ab"},
        "weights": "ema",
        "memory": None,
        "precision": "fp32",
    }
    return Protocol(**{**given, **changes})


def cells(score: Cell, labels: float = 0.5, copies: float = 0.0) -> dict[str, Cell]:
    """One row's."""
    return {"fd/pixels": score, "labels": Cell(labels), "copies": Cell(copies)}


def table(scored: Protocol, rows: Mapping[str, dict[str, Cell]], gaussian: float = 9.0) -> dict[str, Any]:
    """A run's own table."""
    rows = {"Gaussian": cells(Cell(gaussian)), "held-out pictures": cells(Cell(0.2), copies=0.01), **rows}
    kinds = tuple(Row(name=name, cells=found) for name, found in rows.items())
    floor = {"fd/pixels": 0.25}
    return ScoreTable(title="", protocol=scored.digest, columns=COLUMNS, rows=kinds, floor=floor).to_json()


def record(scored: Protocol, rows: Mapping[str, dict[str, Cell]], **more: Any) -> dict[str, Any]:
    """What scores.json holds."""
    gaussian = more.pop("gaussian", 9.0)
    return {"images": 1000, "protocol": scored.to_json(), "table": table(scored, rows, gaussian), **more}


def make_run(
    path: Path,
    score: float | Cell,
    *words: str,
    source: str = "digits/label",
    curve: Sequence[tuple[int, float]] = CURVE,
    rate: float = 100.0,
    scored: Protocol | None = None,
    rows: Mapping[str, dict[str, Cell]] | None = None,
    **more: Any,
) -> Path:
    """A finished run with a checkpoint that records its shapes, curves and two pictures."""
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text(dump(load(source, words)))
    lines = [json.dumps({"images": images, "fd/pixels": value}) + "\n" for images, value in curve]
    (path / "metrics.jsonl").write_text("".join(lines))
    cell = score if isinstance(score, Cell) else Cell(score)
    pictures = {"samples": "samples/final.png", "neighbours": "samples/neighbours.png"}
    given = record(scored or protocol(), rows or {SAMPLES: cells(cell)}, run={"images/s": rate}, **more)
    (path / "scores.json").write_text(
        json.dumps({**given, "pictures": pictures, "evaluations_per_sample": 25})
    )
    (path / "samples").mkdir()
    for number, file in enumerate(pictures.values()):
        Image.fromarray(np.full((20, 30), 60 * number, np.uint8)).save(path / file)
    kept = checkpoints.Checkpoint({}, {"images": 1000, "steps": 1, "shapes": SHAPES})
    checkpoints.save(path / "checkpoints", 1000, kept, keep=1)
    return path


def make_memory_run(path: Path, held_out: float, samples: float, **more: Any) -> Path:
    """The same, conditioned on a memory."""
    rows = {SAMPLES: samples, HELD_OUT: held_out, DECODE: 3.0}
    return make_run(
        path,
        samples,
        source="digits/gmem",
        scored=protocol(memory=MEMORY, conditions={"rule": "uniform", "label": False}),
        rows={name: cells(Cell(value)) for name, value in rows.items()},
        memory=FACTS,
        **more,
    )


def keep_scoring(path: Path, name: str, scored: Protocol, score: Cell, **more: Any) -> None:
    """Another scoring, as `genmem evaluate` keeps it."""
    file = path / "evaluations" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record(scored, {SAMPLES: cells(score)}, **more)))
