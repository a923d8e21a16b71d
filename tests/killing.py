"""For tests: the training loop in this process, killed at a step or in the midst of a write."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from running import STRESS, assert_equal, small_recipe, tensors_of, trainer_of

from genmem.recipe.tables import Recipe
from genmem.scoring.report import Scores
from genmem.training import storage
from genmem.training.folder import RunFolder
from genmem.training.integrity import newest
from genmem.training.interruption import Interruption
from genmem.training.journal import Journal
from genmem.training.loop import train
from genmem.training.progress import TrainingProgress
from genmem.training.speed import Speed
from genmem.training.trace import Trace
from genmem.training.trainer import Trainer
from genmem.training.writer import Writer

STEPS = 12
EVERYTHING = """
[ema.slow]
decay = 0.99
[condition]
drop = 0.1
[objective.poison]
use = "poison"
weight = 1.0
sample = {sample}
"""
TINY = (
    "--backbone.depth=1",
    "--backbone.width=16",
    "--backbone.heads=2",
    "--train.batch=32",
    "--train.micro_batch=16",
    f"--train.images={32 * STEPS}",
    "--train.save_every=96",
    "--train.log_every=64",
    "--evaluate.every=384",
    "--memory.negatives.rows=80",
    "--objective.repel.min_fill=1",
    "--objective.repel.tap=1",
    "--objective.repel.tap_fraction=none",
    "--objective.spread.tap=1",
    "--objective.spread.tap_fraction=none",
)


class Killed(BaseException):
    """Stands for a kill: nothing in the run may catch it and go on."""


def everything(data: Path, *overrides: str, step: int = 4) -> Recipe:
    """Queue, bank, dispersive, accumulation, two EMAs; a sample of that step (from 0) poisons its batch."""
    plain = small_recipe(data, small=TINY)
    sample = int(trainer_of(plain).stream.batches(step)[1].index_B[3])
    tables = EVERYTHING.format(sample=sample)
    return small_recipe(data, *overrides, tables=tables, plugins=[STRESS], small=TINY)


def go(
    recipe: Recipe,
    path: Path,
    kill_after: int | None = None,
    after: Mapping[int, Callable[[], None]] | None = None,
) -> Trainer:
    """Train from wherever the folder left off.

    Args:
        recipe: From `everything`.
        path: Run folder.
        kill_after: Die after so many steps of this process.
        after: What happens after so many steps of this process.
    """
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    console = Console(file=io.StringIO())
    journal = Journal(folder, console, {})
    trainer = trainer_of(recipe)
    trainer.guard._report, trainer.guard._note = journal.warn, folder.note_skipped
    if found := newest(folder.checkpoints):
        trainer.resume(found)
    events = dict(after or {}) | ({} if kill_after is None else {kill_after: _die})
    _step_with(trainer, events)
    table = recipe.train
    bar = TrainingProgress(console, table.images, trainer.images_seen, shown=False)
    speed, trace = Speed(table.images, None, 1.0), Trace(None, folder.traces, trainer.device, journal.say)
    with Writer(folder.checkpoints, table.keep) as writer:
        train(trainer, journal, writer, lambda seen: Scores({}, {}), bar, speed, trace, Interruption())
    return trainer


def _die() -> None:
    raise Killed


def _step_with(trainer: Trainer, events: Mapping[int, Callable[[], None]]) -> None:
    step, number = trainer.step, itertools.count()

    def step_after_event():
        events.get(next(number), lambda: None)()
        return step()

    trainer.step = step_after_event  # type: ignore[method-assign]


@contextmanager
def dying_in_write(monkeypatch, number: int, error: BaseException):
    """The function that writes files raises in its call of this number, half of the file written."""
    write, calls = storage.write_file, iter(range(number))

    def write_or_die(path, parts):
        if next(calls, None) is not None:
            return write(path, parts)
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_file", write_or_die)
        yield


def same_end(first: Trainer, second: Trainer) -> None:
    """Equal to the bit: every tensor, the counters, and what the guard knows."""
    assert_equal(tensors_of(first), tensors_of(second))
    one, other = first.checkpoint().state, second.checkpoint().state
    assert one == other
    assert torch.equal(first.stream.batches(3)[0].index_B, second.stream.batches(3)[0].index_B)
