"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genmem import collectives
from genmem.scoring.report import Scores
from genmem.training.interruption import Interruption
from genmem.training.journal import Journal
from genmem.training.progress import TrainingProgress
from genmem.training.rollback import roll_back
from genmem.training.speed import Speed
from genmem.training.trace import Trace
from genmem.training.trainer import Trainer
from genmem.training.writer import Writer

Score = Callable[[int], Scores]
"""Scores of the run as it is, after so many images; called on every rank."""


def train(
    trainer: Trainer,
    journal: Journal,
    writer: Writer,
    score: Score,
    progress: TrainingProgress,
    speed: Speed,
    trace: Trace,
    interruption: Interruption,
) -> bool:
    """Train until all images are seen, or until asked to stop. Returns whether it is finished."""
    table, evaluate = trainer.recipe.train, trainer.recipe.evaluate
    window, watch = _Window(), _Watch()
    if trainer.steps == 0:
        # Something to roll back to; and whether checkpoints can be written is known at once.
        _save(trainer, writer)
    if not trainer.finished and interruption.agreed_at_once(trainer.device):
        writer.settle()
        return False
    while not trainer.finished:
        window.add(trainer.step())
        trace.step(trainer.images_seen)
        writer.check()
        progress.advance(trainer.batching.batch)
        if trainer.finished:
            trainer.guard.settle()
        if trainer.guard.spent:
            journal.warn(roll_back(trainer, journal.folder, writer), trainer.images_seen)
            progress.move_to(trainer.images_seen)
            window = _Window()
            continue
        if _due(trainer, table.log_every):
            _log(trainer, journal, progress, speed, window, watch)
        if _due(trainer, evaluate.every):
            _log_scores(trainer, journal, score)
            window.restart_clock()
        if _due(trainer, table.save_every or evaluate.every):
            _save(trainer, writer)
        if interruption.agreed(trainer.device):
            _save(trainer, writer)
            writer.settle()
            return False
    writer.settle()
    return True


class _Line(NamedTuple):
    means: dict[str, float]
    rate: float


class _Window:
    """Sums on the device since the last line of the log."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._steps = 0
        self._since = time.perf_counter()

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1

    def restart_clock(self) -> None:
        """Do not count the time since the last line, or the steps."""
        self._steps = 0
        self._since = time.perf_counter()

    def close(self, batch: int) -> _Line:
        """Means over the steps since the last line and over ranks; the one synchronisation."""
        names = sorted(self._sums)
        stacked = torch.stack([self._sums[name].float() / self._counts[name] for name in names])
        means = collectives.mean(stacked).tolist()
        rate = self._steps * batch / (time.perf_counter() - self._since)
        self._reset()
        return _Line(dict(zip(names, means, strict=True)), rate)


class _Watch:
    """What objectives have to say about their metrics; said once while it stands."""

    def __init__(self) -> None:
        self._standing: set[str] = set()

    def look(self, trainer: Trainer, means: dict[str, float]) -> list[str]:
        found = {}
        for name, table in trainer.recipe.objective.items():
            prefix = f"objective/{name}/"
            metrics = {k.removeprefix(prefix): v for k, v in means.items() if k.startswith(prefix)}
            if metrics and (line := table.objective.config.warn(metrics)):
                found[name] = f"objective {name!r}: {line}"
        new = [line for name, line in found.items() if name not in self._standing]
        self._standing = set(found)
        return new


def _due(trainer: Trainer, every: int) -> bool:
    """Whether the last step crossed a multiple of `every` images, or was the last of all."""
    return trainer.crosses(every, trainer.images_seen)


def _log(
    trainer: Trainer,
    journal: Journal,
    progress: TrainingProgress,
    speed: Speed,
    window: _Window,
    watch: _Watch,
) -> None:
    # Before the host waits for the device: the guard notices where another process does not come.
    trainer.guard.settle()
    line = window.close(trainer.batching.batch)
    for name, store in trainer.memories.items():
        line.means.update({f"memory/{name}/{key}": float(value) for key, value in store.metrics().items()})
    values = {**line.means, **speed.rates(trainer.images_seen, line.rate)}
    journal.line(trainer.images_seen, values)
    progress.show(values)
    for warning in watch.look(trainer, line.means):
        journal.warn(warning)


def _log_scores(trainer: Trainer, journal: Journal, score: Score) -> None:
    values, pictures = score(trainer.images_seen)
    journal.scores(trainer.images_seen, values, pictures)


def _save(trainer: Trainer, writer: Writer) -> None:
    """Begin to write a checkpoint; training goes on meanwhile."""
    trainer.guard.settle()
    writer.save(trainer.images_seen, trainer.checkpoint())
