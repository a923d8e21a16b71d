"""What `genmem sample` does: pictures by number, on any number of processes, going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from genmem import collectives
from genmem.api import Run, load
from genmem.console import Terminal
from genmem.contracts import MemoryStore
from genmem.pictures import Pictures
from genmem.sampling.generator import Generated, Generator
from genmem.sampling.outputs import FORMATS, Output
from genmem.scoring.spaces import describe
from genmem.training.launch import process_group

SHOWN = 256
"""Pictures in the grid."""


@attrs.frozen(kw_only=True)
class Job:
    """What to sample, and where to."""

    run: Path
    num: int
    seed: int
    weights: str | None
    checkpoint: int | None = None
    out: Path | None
    form: str
    labels: str
    plugins: tuple[Path, ...]
    overrides: tuple[str, ...] = ()


def sample(job: Job) -> None:
    """Write pictures 0 … num - 1 of a seed; those that are there already are left alone.

    A chunk of numbers is always generated in one batch, so every picture is the same, bit for bit,
    however many processes share the job and however often it was interrupted.

    Raises:
        FileNotFoundError: No run, no checkpoint in it, or not the one asked for.
        ValueError: A damaged checkpoint; or the folder holds pictures of another job, and the message
            says what differs.
    """
    run = load(job.run, overrides=job.overrides, plugins=job.plugins, checkpoint=job.checkpoint)
    with process_group(run.device):
        folder = job.out or job.run / "samples" / f"seed-{job.seed}"
        generator = attrs.evolve(run.generator(job.weights), labels=job.labels)
        if collectives.rank() == 0:
            _begin(folder, _identity(run, job, generator.conditioner.store))
        collectives.barrier()
        output: Output = FORMATS[job.form](folder)
        evaluations = _generate(run, job, generator, output)
        collectives.barrier()
        if collectives.rank() == 0:
            output.finish(job.num)
            _show(run, job, generator, folder, evaluations)


def _generate(run: Run, job: Job, generator: Generator, output: Output) -> int:
    """This process's chunks; returns the most evaluations a sample took."""
    tokenizer = run.recipe.data.tokenizer.config.build()
    most = 0
    with Progress(console=Console(stderr=True), disable=collectives.rank() != 0) as bar:
        task = bar.add_task("sample", total=job.num)
        for first, stop in _chunks(job.num, run.recipe.evaluate.batch):
            mine = first // run.recipe.evaluate.batch % collectives.world_size() == collectives.rank()
            if mine and not output.has(first, stop):
                part = generator.sample(torch.arange(first, stop), job.seed)
                output.write(first, tokenizer.decode(part.x), _facts(part))
                most = max(most, part.evaluations)
            bar.update(task, completed=stop)
    return most


def _chunks(num: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num, size):
        yield first, min(first + size, num)


def _facts(part: Generated) -> list[dict[str, Any]]:
    columns = {"label": part.label_B, "row": part.row_B}
    there = {name: values.tolist() for name, values in columns.items() if values is not None}
    return [{name: values[i] for name, values in there.items()} for i in range(len(part.index_B))]


def _identity(run: Run, job: Job, store: MemoryStore | None) -> dict[str, Any]:
    guidance = run.recipe.guidance
    identity = {
        "run": run.recipe.name,
        "images_seen": run.images_seen,
        "weights": job.weights or run.recipe.evaluate.weights,
        "seed": job.seed,
        "labels": job.labels,
        "batch": run.recipe.evaluate.batch,
        "sampler": describe(run.recipe.sampler),
        "guidance": None if guidance is None else describe(guidance),
        "memory": None if store is None else {**store.fingerprint(), **store.describe()},
    }
    # As it comes back from the file: tuples are lists.
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _begin(folder: Path, identity: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "job.json"
    if file.exists():
        before = json.loads(file.read_text())
        differing = [key for key in identity if before.get(key) != identity[key]]
        if differing:
            shown = "; ".join(f"{key}: {before.get(key)} there, {identity[key]} here" for key in differing)
            raise ValueError(
                f"{folder} holds pictures of another job ({shown}); give another folder with --out"
            )
    file.write_text(json.dumps(identity, indent=1))


def _show(run: Run, job: Job, generator: Generator, folder: Path, evaluations: int) -> None:
    tokenizer = run.recipe.data.tokenizer.config.build()
    first = next(iter(_chunks(min(job.num, SHOWN), run.recipe.evaluate.batch)))
    if job.form == "png":
        pictures = np.stack([np.array(Image.open(folder / f"{n:06d}.png")) for n in range(first[1])])
        pictures = pictures if pictures.ndim == 4 else pictures[..., None]
    else:
        pictures = tokenizer.decode(generator.sample(torch.arange(*first), job.seed).x)
    grid = Pictures(pictures).save(folder / "grid.png")
    spent = f", {evaluations} network evaluations each" if evaluations else ", all there already"
    console = Terminal()
    console.print(
        f"{job.num:,} pictures of seed {job.seed} in {folder}, from weights "
        f"{job.weights or run.recipe.evaluate.weights!r} after {run.images_seen:,} images{spent}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"grid: {grid}", highlight=False, soft_wrap=True)
