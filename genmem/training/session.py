"""One process of `genmem train`: prepare, build, resume, train, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from genmem import collectives
from genmem.building import prepare_files, shapes_of
from genmem.console import Terminal
from genmem.data.dataset import Dataset
from genmem.data.preparation import prepare, stay_silent
from genmem.data.streaming.damage import read_problems
from genmem.devices import resolve
from genmem.host.catalog import load_catalog
from genmem.profiling.step import flops_per_image
from genmem.recipe import load as load_recipe
from genmem.recipe.tables import Recipe
from genmem.sampling.generator import generator_of
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.report import Reporter, Scores, mean_of_last, show
from genmem.scoring.run_protocol import protocol_of
from genmem.training.compilation import compiling
from genmem.training.folder import RunFolder
from genmem.training.guard import Guard
from genmem.training.integrity import newest, shared_fault
from genmem.training.interruption import Interruption, watched
from genmem.training.journal import Journal, built
from genmem.training.launch import process_group
from genmem.training.loop import train
from genmem.training.owner import SoleOwner, on_lead
from genmem.training.progress import TrainingProgress, preparation_progress
from genmem.training.retention import set_aside, tidy
from genmem.training.sharding import gathered
from genmem.training.speed import Speed, measure_ceiling
from genmem.training.trace import Trace
from genmem.training.trainer import Trainer
from genmem.training.writer import Writer


def run(
    source: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    out: Path | None,
    argv: list[str],
    minutes: float | None = None,
) -> None:
    """Train a recipe to its end, from wherever its run folder left off; or for so many minutes.

    Raises:
        RecipeError: What is wrong with the recipe, all of it.
        ValueError, OSError: Data, bank or run folder that do not fit; the message says which.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    recipe = load_recipe(source, overrides, plugins)
    catalog = load_catalog(tuple(Path(file) for file in recipe.plugins))
    device = resolve(recipe.train.device)
    folder = RunFolder(out or Path("runs") / recipe.name)
    with process_group(device, recipe.train.timeout, folder.hang):
        console = Terminal()
        journal = Journal(folder, console, built(recipe))
        with SoleOwner(folder):
            on_lead(lambda: folder.check(recipe) if folder.recipe.exists() else None)
            dataset = _ready_data(recipe, device, console)
            begin = partial(folder.begin, recipe, catalog, argv)
            asks = watched(deadline, lambda: console.deserted)
            _train(recipe, dataset, device, journal, asks, begin)


def _train(
    recipe: Recipe,
    dataset: Dataset,
    device: torch.device,
    journal: Journal,
    asks: AbstractContextManager[Interruption],
    begin: Callable[[], None],
) -> None:
    folder, console, lead = journal.folder, journal.console, collectives.rank() == 0
    guard = Guard(
        journal.warn, recipe.guard, folder.note_skipped if lead else stay_silent, recipe.train.timeout
    )
    trainer = Trainer(recipe, dataset, device, guard)
    if trainer.stream.damages is not None:
        trainer.stream.damages.write_to(folder.damaged)
    _resume(trainer, folder, console)
    # Not before the checkpoint was compared with data and memories: what is refused changes no file.
    on_lead(begin)
    if trainer.finished and _is_scored(folder, trainer.images_seen):
        if lead:
            console.print(f"{folder.path} is complete; train.images = … goes on, --out starts another run")
            show(folder, console)
        return
    journal.start(recipe, trainer.images_seen)
    if recipe.train.shard and trainer.batching.world == 1:
        journal.say(
            "train.shard = true in one process: nothing is split, the model is whole", trainer.images_seen
        )
    try:
        _go_on(trainer, journal, asks)
    except BaseException as error:
        journal.end(trainer.images_seen, "failed", f"{type(error).__name__}: {error}")
        raise


def _is_scored(folder: RunFolder, images_seen: int) -> bool:
    """Whether scores.json is of the weights as they are: the first process looks, and tells the others."""
    scored = collectives.rank() == 0 and folder.scored_at() == images_seen
    return collectives.first_word("scored" if scored else None) is not None


def _go_on(trainer: Trainer, journal: Journal, asks: AbstractContextManager[Interruption]) -> None:
    folder, console, lead = journal.folder, journal.console, collectives.rank() == 0
    reporter = _reporter(trainer, folder, console)
    backbone = reporter.generator.backbone

    def score(images_seen: int) -> Scores:
        with gathered(backbone):
            return reporter.during(images_seen)

    table = trainer.recipe.train
    bar = TrainingProgress(console, table.images, trainer.images_seen, shown=lead)
    trace = Trace(table.trace, folder.traces, trainer.device, journal.say)
    writer = Writer(folder.checkpoints, table.keep, table.keep_every, journal.checkpoint, table.timeout)
    speed = speed_of(trainer)
    with writer, asks as interruption, bar, trace, compiling():
        finished = train(trainer, journal, writer, score, bar, speed, trace, interruption)
    if finished:
        with gathered(backbone):
            reporter.finish(trainer.images_seen, _summary(trainer, folder))
    elif lead:
        why = " by --minutes" if interruption.timed_out else ""
        console.print(
            f"stopped{why} at {trainer.images_seen:,} images and saved; the same command goes on from there"
        )
    journal.end(trainer.images_seen, "finished" if finished else "stopped")


def _reporter(trainer: Trainer, folder: RunFolder, console: Console) -> Reporter:
    recipe, dataset, device = trainer.recipe, trainer.dataset, trainer.device
    weights = recipe.evaluate.weights
    backbone = trainer.assembly.backbone if weights == "online" else trainer.averages.modules[weights]
    conditioner = trainer.assembly.conditioner
    generator = generator_of(recipe, backbone, conditioner, shapes_of(dataset), device)
    protocol = protocol_of(recipe, dataset, conditioner.store, (recipe.evaluate.seed,), weights)
    return Reporter(recipe, Evaluation(recipe, dataset, device), generator, protocol, folder, console)


def speed_of(trainer: Trainer) -> Speed:
    """What a rate means for this run; takes a second, on every process."""
    recipe, shapes = trainer.recipe, shapes_of(trainer.dataset)
    lead = collectives.rank() == 0
    flops = flops_per_image(recipe, shapes, trainer.batching.world) if lead else None
    return Speed(recipe.train.images, flops, measure_ceiling(trainer.device, recipe.train.precision))


def _summary(trainer: Trainer, folder: RunFolder) -> dict[str, float]:
    """Losses, rate and skipped steps, from metrics.jsonl."""
    if collectives.rank() != 0:
        return {}
    records = folder.records()
    keys = {
        "loss/denoise": "training loss",
        "loss/held_out": "held-out loss",
        "images_per_s": "images/s",
        "mfu": "MFU",
    }
    found = {
        name: mean_of_last(records, key, 1 if key == "loss/held_out" else 10) for key, name in keys.items()
    }
    skipped = {"skipped steps": float(trainer.guard.skipped)} if trainer.guard.skipped else {}
    if damaged := sum(read_problems(folder.damaged).values()):
        skipped["damaged samples replaced (damaged.jsonl)"] = float(damaged)
    return {name: value for name, value in found.items() if value is not None} | skipped


def _ready_data(recipe: Recipe, device: torch.device, console: Console) -> Dataset:
    """Every process prepares its share of the shards; then the first makes the files of memories."""
    lead = collectives.rank() == 0
    with preparation_progress(console, shown=lead) as report:
        tell = console.print if lead else stay_silent
        dataset = prepare(recipe.data, report, device=device, tell=tell, together=True)
        if lead:
            dataset = prepare_files(recipe, report)
    collectives.patient_barrier()
    return dataset


def _resume(trainer: Trainer, folder: RunFolder, console: Console) -> None:
    lead = collectives.rank() == 0

    def tell(line: str) -> None:
        if lead:
            console.print(f"[yellow]{escape(line)}", highlight=False, soft_wrap=True)

    if lead:
        tidy(folder.checkpoints)
    collectives.barrier()
    found = newest(folder.checkpoints, shared_fault, tell)
    if found:
        trainer.resume(found)
        if lead:
            for path in set_aside(folder.checkpoints, found):
                tell(f"{path}: the damaged checkpoint is kept under this name, besides those of train.keep")
            console.print(f"going on from {trainer.images_seen:,} images ({found})", highlight=False)
    if lead:
        folder.rewind(trainer.images_seen, trainer.guard.rollbacks)
