"""The training loop."""

from __future__ import annotations

from collections.abc import Callable

from genmem import collectives
from genmem.scoring.report import Scores
from genmem.training.interruption import Interruption
from genmem.training.journal import Journal
from genmem.training.progress import TrainingProgress
from genmem.training.rollback import roll_back
from genmem.training.speed import Speed
from genmem.training.trace import Trace
from genmem.training.trainer import Trainer
from genmem.training.window import Window
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
    if not _begin(trainer, journal, writer, score, interruption):
        return False
    window, watch = Window(), _Watch()
    while not trainer.finished:
        window.add(trainer.step(), trainer.kept)
        trace.step(trainer.images_seen)
        writer.check()
        progress.advance(trainer.batching.batch)
        if trainer.finished:
            trainer.guard.settle()
        if trainer.guard.spent:
            _go_back(trainer, journal, writer, progress)
            window = Window()
            continue
        if _due(trainer, table.log_every):
            _log(trainer, journal, progress, speed, window, watch)
        stop = interruption.agreed(trainer.device)
        # Before a scoring, which takes long and may fail; a run that stops here begins with one that is due.
        if stop or _due(trainer, table.save_every or evaluate.every):
            _save(trainer, writer)
        if stop:
            writer.settle()
            return False
        if _due(trainer, evaluate.every):
            _log_scores(trainer, journal, score)
            window.restart_clock()
    writer.settle()
    return True


def _begin(
    trainer: Trainer, journal: Journal, writer: Writer, score: Score, interruption: Interruption
) -> bool:
    """What comes before the first step of this process. Returns whether one is to be taken."""
    if trainer.steps == 0:
        # Something to roll back to; and whether checkpoints can be written is known at once.
        _save(trainer, writer)
    if not trainer.finished and interruption.agreed_at_once(trainer.device):
        writer.settle()
        return False
    if trainer.steps and _due(trainer, trainer.recipe.evaluate.every) and not _is_scored(trainer, journal):
        _log_scores(trainer, journal, score)
    return True


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
    window: Window,
    watch: _Watch,
) -> None:
    # Before the host waits for the device: the guard notices where another process does not come.
    trainer.guard.settle()
    line = window.close(trainer.batching.batch)
    for name, store in trainer.memories.items():
        line.means.update({f"memory/{name}/{key}": float(value) for key, value in store.metrics().items()})
    values = {**line.means, **speed.rates(trainer.images_seen, line.rate)}
    if line.skipped:
        values["skipped_steps"] = line.skipped
    journal.line(trainer.images_seen, values)
    progress.show(values)
    for warning in watch.look(trainer, line.means):
        journal.warn(warning)


def _is_scored(trainer: Trainer, journal: Journal) -> bool:
    """Whether the scores of this moment are told already; the first process looks. Collective."""
    scored = collectives.rank() == 0 and journal.folder.has_scores(trainer.images_seen)
    return collectives.first_word("scored" if scored else None) is not None


def _log_scores(trainer: Trainer, journal: Journal, score: Score) -> None:
    try:
        values, pictures = score(trainer.images_seen)
    except Exception:
        journal.say(
            "this scoring failed. The same command goes on from the last checkpoint; keys of [evaluate] may "
            "be changed, evaluate.batch for one",
            trainer.images_seen,
        )
        raise
    journal.scores(trainer.images_seen, values, pictures)


def _go_back(trainer: Trainer, journal: Journal, writer: Writer, progress: TrainingProgress) -> None:
    before = trainer.images_seen
    message = roll_back(trainer, journal.folder, writer)
    journal.go_back(before, trainer.images_seen)
    journal.warn(message, trainer.images_seen)
    progress.move_to(trainer.images_seen)


def _save(trainer: Trainer, writer: Writer) -> None:
    """Begin to write a checkpoint; training goes on meanwhile."""
    trainer.guard.settle()
    writer.save(trainer.images_seen, trainer.checkpoint())
