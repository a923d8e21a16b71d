"""What `genmem sample` does."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from genmem.api import load
from genmem.pictures import Pictures
from genmem.sampling.gallery import generate


def sample(
    path: Path, *, num: int, seed: int, weights: str | None, out: Path | None, plugins: tuple[Path, ...]
) -> None:
    """Write pictures 0 … num - 1 of a seed as PNG files, and a grid of the first.

    Raises:
        FileNotFoundError: No run, or no checkpoint in it.
    """
    console = Console()
    run = load(path, plugins=plugins)
    folder = out or path / "samples" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = run.recipe.data.tokenizer.config.build()
    with Progress(console=console) as bar:
        task = bar.add_task("sample", total=num)
        gallery = generate(
            run.generator(weights),
            tokenizer,
            num,
            seed=seed,
            batch=run.recipe.evaluate.batch,
            tick=lambda done: bar.advance(task, done),
        )
    for number, picture in enumerate(gallery.pictures):
        Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(
            folder / f"{number:06d}.png"
        )
    grid = Pictures(gallery.pictures[:256]).save(folder / "grid.png")
    used = weights or run.recipe.evaluate.weights
    console.print(
        f"{num} pictures of seed {seed} in {folder}, from weights {used!r} after {run.images_seen:,} images, "
        f"{gallery.evaluations} network evaluations each",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"grid: {grid}", highlight=False, soft_wrap=True)
