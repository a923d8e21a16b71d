"""For tests: the training loop in this process, killed at a step or in the midst of a write."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from running import STRESS, assert_equal, small_recipe, tensors_of, trainer_of

from genmem import collectives
from genmem.data.preparation import stay_silent
from genmem.recipe.tables import Recipe
from genmem.scoring.report import Scores
from genmem.training import session, storage
from genmem.training.folder import RunFolder
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
    path: Path | RunFolder,
    kill_after: int | None = None,
    after: Mapping[int, Callable[[], None]] | None = None,
    said: io.StringIO | None = None,
    made: Callable[[Trainer], None] = lambda trainer: None,
    interruption: Interruption | None = None,
) -> Trainer:
    """Train from wherever the folder left off, in this process or, called on each, in several.

    Args:
        recipe: From `everything`.
        path: Run folder; as an object where it has begun.
        kill_after: Die after so many steps of this process.
        after: What happens after so many steps of this process.
        said: Gets what is said on the terminal.
        made: Gets the trainer before its first step.
        interruption: Asks the run to stop.
    """
    folder = path if isinstance(path, RunFolder) else RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    console = Console(file=said or io.StringIO(), width=500)
    journal = Journal(folder, console, {})
    trainer = trainer_of(recipe)
    note = folder.note_skipped if collectives.rank() == 0 else stay_silent
    trainer.guard._report, trainer.guard._note = journal.warn, note
    session._resume(trainer, folder, console)
    made(trainer)
    events = dict(after or {}) | ({} if kill_after is None else {kill_after: _die})
    _step_with(trainer, events)
    table = recipe.train
    bar = TrainingProgress(console, table.images, trainer.images_seen, shown=False)
    speed, trace = Speed(table.images, None, 1.0), Trace(None, folder.traces, trainer.device, journal.say)
    with Writer(folder.checkpoints, table.keep) as writer:
        asked = interruption or Interruption()
        train(
            trainer,
            journal,
            writer,
            lambda seen: Scores({"loss/held_out": 0.0}, {}),
            bar,
            speed,
            trace,
            asked,
        )
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


def same_records(first: Path, second: Path) -> None:
    """The logs of two run folders tell of the same events, each once; what was measured may differ."""
    assert _events(first) == _events(second)
    for name in ("skipped.jsonl", "divergence.json"):
        texts = [(path / name).read_text() if (path / name).exists() else None for path in (first, second)]
        assert texts[0] == texts[1], name


def _events(path: Path) -> list[tuple[int, int, str]]:
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(one["images"], one.get("rollbacks", 0), one.get("warning", "")) for one in records]
