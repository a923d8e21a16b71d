"""`genmem sample --rows | --memory | --text | --interpolate`: samples of named rows, as one picture.

Each line is a row of the memory: what it was made of, samples from several noises, and the training
pictures whose rows are nearest to it.
Shapes: S rows, V noises, K memories a sample, E memory width, H W C picture.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from rich.console import Console

from genmem.api import Run, load
from genmem.captions import spell
from genmem.conditioning import rows_are_of
from genmem.contracts import MemoryStore
from genmem.data.picture_files import read_pictures
from genmem.pictures import lines
from genmem.sampling.outputs import encode_png
from genmem.sampling.snippets import Snippets, Wanted, find_snippets, name_end

NEAREST = 5
BLANK = 96


@attrs.frozen(kw_only=True)
class Figure:
    """What to draw, and where to."""

    run: Path
    wanted: Wanted
    noises: int
    seed: int
    weights: str | None = None
    checkpoint: int | None = None
    out: Path | None = None
    overrides: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()


def draw_figure(figure: Figure) -> Path:
    """Write figure.png, figure.json and every sample; the folder they are in.

    Raises:
        FileNotFoundError: No run, no checkpoint, or no such picture.
        ValueError: A run without a memory, a number that is not a row, or a picture that none of its
            encoders reads.
    """
    run = load(figure.run, overrides=figure.overrides, plugins=figure.plugins, checkpoint=figure.checkpoint)
    generator = run.generator(figure.weights)
    store = generator.conditioner.store
    if store is None:
        raise ValueError(f"{figure.run}: no memory conditions this run's network ([condition] memory)")
    found = find_snippets(run, store, figure.wanted)
    near = _Origins(run, store)
    tokenizer = run.recipe.data.tokenizer.config.build()
    index = torch.arange(figure.noises).repeat(len(found.name_S))
    memory = found.memory_SKE.repeat_interleave(figure.noises, 0)
    parts = generator.batches(index, figure.seed, run.recipe.evaluate.batch, memory)
    samples = np.concatenate([tokenizer.decode(part.x) for part in parts])
    folder = figure.out or figure.run / "samples" / f"figure-{_digest(figure, run)}"
    _write(folder, figure, run, found, samples, near)
    return folder


class _Origins:
    """The training pictures behind rows; none where the rows are another set's."""

    def __init__(self, run: Run, store: MemoryStore) -> None:
        self.run, self.store = run, store
        self.shown = rows_are_of(store, run.dataset) and "nearest" in store.abilities
        self.tokenizer = run.recipe.data.tokenizer.config.build()

    def blank(self) -> np.ndarray:
        """(H, W, C)."""
        return np.full(self.run.dataset.picture_shape, BLANK, np.uint8)

    def reference(self, row: int, picture: Path | None) -> np.ndarray:
        """(H, W, C): what a row was made of, as far as it is known."""
        if picture is not None:
            given: np.ndarray = read_pictures([picture], self.run.dataset.picture_shape)[0]
            return given
        sample = int(self.store.samples_of(torch.tensor([row]))) if row >= 0 and self.shown else -1
        found: np.ndarray = self.pictures([sample])[0]
        return found

    def nearest(self, memory_KE: torch.Tensor) -> list[int]:
        """The samples of the nearest rows, each once, nearest first."""
        total, k = self.store.num_rows, 2 * NEAREST
        while self.shown:
            numbers = self.store.nearest(memory_KE[:1], min(k, total))[1][0]
            samples = [one for one in dict.fromkeys(self.store.samples_of(numbers).tolist()) if one >= 0]
            if len(samples) >= NEAREST or k >= total:
                return samples[:NEAREST]
            k *= 4
        return []

    def pictures(self, samples: list[int]) -> np.ndarray:
        """(n, H, W, C); blank for what is no sample."""
        return np.stack(
            [
                self.run.dataset.pictures("train", [one], self.tokenizer)[0] if one >= 0 else self.blank()
                for one in samples
            ]
        )


def _write(
    folder: Path, figure: Figure, run: Run, found: Snippets, samples: np.ndarray, origins: _Origins
) -> None:
    references = [
        origins.reference(row, picture) for row, picture in zip(found.row_S, found.picture_S, strict=True)
    ]
    nearest = [origins.nearest(memory_KE) for memory_KE in found.memory_SKE]
    groups = [samples.reshape(len(nearest), figure.noises, *samples.shape[1:])]
    caption = f"each line: {', '.join(figure.wanted.texts)}: samples from several noises"
    if not figure.wanted.texts:
        groups.insert(0, np.stack(references)[:, None])
        caption = "each line: what the row was made of | samples from several noises"
    if origins.shown:
        padded = [(near + [-1] * NEAREST)[:NEAREST] for near in nearest]
        groups.append(np.stack([origins.pictures(near) for near in padded]))
        caption += " | the training pictures whose rows are nearest"
    folder.mkdir(parents=True, exist_ok=True)
    lines(groups, caption).save(folder / "figure.png")
    for number, picture in enumerate(samples):
        (folder / f"{number:06d}.png").write_bytes(encode_png(picture))
    told = [{"row": name, "nearest": near} for name, near in zip(found.name_S, nearest, strict=True)]
    record = _about(figure, run) | {"noises": figure.noises, "lines": told}
    (folder / "figure.json").write_text(json.dumps(record, indent=1))
    if spell(caption) != caption:
        Console().print("letters that the caption's font lacks stand in it as codes; figure.json has them")
    Console().print(
        f"{len(told)} rows × {figure.noises} noises: {folder / 'figure.png'}", highlight=False, soft_wrap=True
    )


def _about(figure: Figure, run: Run) -> dict[str, Any]:
    wanted, ends = figure.wanted, figure.wanted.ends or ()
    return {
        "run": run.recipe.name,
        "images_seen": run.images_seen,
        "weights": figure.weights or run.recipe.evaluate.weights,
        "seed": figure.seed,
        "overrides": list(figure.overrides),
        "rows": list(wanted.rows),
        "pictures": [name_end(str(path)) for path in wanted.pictures],
        "texts": list(wanted.texts),
        "map": wanted.map,
        "between": [name_end(word) for word in ends],
        "steps": wanted.steps if ends else None,
        "spherical": wanted.spherical,
    }


def _digest(figure: Figure, run: Run) -> str:
    text = json.dumps(_about(figure, run) | {"noises": figure.noises}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
