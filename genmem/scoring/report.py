"""What a run reports: scores on the way, a table and pictures at the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console

from genmem import collectives
from genmem.data.files import write_text
from genmem.pictures import Pictures, beside
from genmem.recipe.tables import Recipe
from genmem.sampling.gallery import generate
from genmem.sampling.generator import Generator
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.full import SHOWN, Report, full_report
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import ScoreTable

if TYPE_CHECKING:
    from genmem.training.folder import RunFolder

LEGEND = {
    "FD": "Fréchet distance to held-out pictures, in a feature space",
    "labels": "share that a classifier fitted on training pictures gives the label asked for",
    "nearest": "mean distance to the nearest training picture",
    "copies": "share nearer to a training picture than 99 % of held-out pictures are to theirs",
}
"""What column titles do not say by themselves."""


class Scores(NamedTuple):
    """What a scoring on the way found; empty but on the first process."""

    values: dict[str, float]
    pictures: dict[str, Path]
    """Files, by name."""


class Reporter:
    """Scores one generator and keeps what it finds in the run folder."""

    def __init__(
        self,
        recipe: Recipe,
        evaluation: Evaluation,
        generator: Generator,
        protocol: Protocol,
        folder: RunFolder,
        console: Console,
    ) -> None:
        """The generator's backbone may go on changing; each call scores it as it is."""
        self.recipe, self.evaluation, self.generator = recipe, evaluation, generator
        self.protocol, self.folder, self.console = protocol, folder, console
        self.seed = protocol.seeds[0]

    def during(self, images_seen: int) -> Scores:
        """Scores after so many images, and a grid of the first samples: the same noise every time."""
        options = self.recipe.evaluate
        gallery = generate(
            self.generator, self.evaluation.tokenizer, options.samples, seed=self.seed, batch=options.batch
        )
        loss = self.evaluation.held_out_loss(self.generator.backbone, self.generator)
        values = {"loss/held_out": loss} | self.evaluation.row(gallery)
        first = gallery.head(SHOWN)
        if collectives.rank() != 0:
            return Scores({}, {})
        grid = Pictures(first).save(self._file(f"{images_seen:012d}"))
        return Scores(values, {"samples": grid})

    def finish(self, images_seen: int, run: dict[str, Any]) -> None:
        """Score in full; write scores.json and the pictures; show both.

        Args:
            images_seen: Images the weights have seen.
            run: Numbers of the run that belong beside the scores: rate, losses.
        """
        with self.console.status("scoring"):
            report = full_report(self.evaluation, self.generator, self.protocol)
        if report is None:
            return
        pictures = self._pictures(report.first)
        record = {
            "images": images_seen,
            "run": run,
            "evaluations_per_sample": report.evaluations,
            "protocol": self.protocol.to_json(),
            "table": report.table.to_json(),
            "memory": report.memory,
            "pictures": pictures,
            "time": time.time(),
        }
        write_text(self.folder.scores, json.dumps(record, indent=1))
        show(self.folder, self.console)

    def full(self) -> Report | None:
        """The full table, nothing written."""
        return full_report(self.evaluation, self.generator, self.protocol)

    def _file(self, name: str) -> Path:
        """A picture file, named also by the weights that were sampled from."""
        return self.folder.samples / f"{name}-{self.recipe.evaluate.weights}.png"

    def _training(self, places_BK: np.ndarray) -> np.ndarray:
        """uint8 (B, K, H, W, C): training pictures by their places."""
        train = self.evaluation.train
        return train.read(places_BK.reshape(-1)).reshape(*places_BK.shape, *train.shape)

    def _pictures(self, first: np.ndarray) -> dict[str, str]:
        shown = {"samples": Pictures(first).save(self._file("final"))}
        near = self.evaluation.neighbours(first[: SHOWN // 2], k=3)
        if near.size:
            shown["neighbours"] = self._file("neighbours")
            beside(first[: SHOWN // 2], self._training(near)).save(shown["neighbours"])
        return {name: str(path.relative_to(self.folder.path)) for name, path in shown.items()}


def show(folder: RunFolder, console: Console) -> None:
    """Print what `finish` wrote."""
    record = json.loads(folder.scores.read_text())
    console.print()
    table = ScoreTable.from_json(record["table"])
    console.print(table)
    for title, meaning in LEGEND.items():
        console.print(f"{title}: {meaning}", highlight=False, soft_wrap=True)
    if record.get("memory"):
        console.print(tell_memory(record["memory"]), highlight=False, soft_wrap=True)
    run = "  ".join(f"{name} {_number(value)}" for name, value in record["run"].items())
    console.print(f"{record['images']:,} images seen  {run}", highlight=False, soft_wrap=True)
    for name, path in record["pictures"].items():
        console.print(f"{name}: {folder.path / path}", highlight=False, soft_wrap=True)


def tell_memory(memory: Mapping[str, Any]) -> str:
    """What a score with a memory must be quoted with, in one line."""
    encoder = memory.get("encoder")
    name = encoder.get("name") if isinstance(encoder, Mapping) else encoder
    parts = [
        f"{memory['rows']:,} rows, {memory.get('added_rows', 0):,} of them added",
        f"drawn {memory['drawn']}" if "drawn" in memory else "",
        f"encoder {name}" if name else "",
        f"width {memory['width']}" + (f", rank {memory['rank']}" if memory.get("rank") else ""),
        f"they carry {memory['pixel_energy']:.1%} of the pixel energy of held-out pictures",
    ]
    return f"memory: {'; '.join(part for part in parts if part)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def mean_of_last(records: list[dict[str, Any]], key: str, count: int = 10) -> float | None:
    """The mean of a metric over the last lines that have it as a finite number."""
    values = [record[key] for record in records if math.isfinite(record.get(key, math.nan))][-count:]
    return float(np.mean(values)) if values else None
