"""Pictures out of a prepared set, as training sees them.

Shapes: B samples, H W C picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from genmem.contracts import Split, Tokenizer
from genmem.data.dataset import Dataset, is_prepared, open_dataset
from genmem.data.description import open_set
from genmem.data.errors import DataError
from genmem.data.streaming.latents import Restoration
from genmem.data.streaming.remote import is_remote
from genmem.pictures import grid
from genmem.recipe import load, load_data


def open_with_tokenizer(
    word: str, overrides: tuple[str, ...] = (), plugins: tuple[Path, ...] = ()
) -> tuple[Dataset, Tokenizer]:
    """A set by its folder, its URL or a recipe that names it, and the tokenizer that decodes it.

    Raises:
        DataError: The set is not prepared, or is damaged.
        RecipeError: The tokenizer of the set is not installed; the recipe is wrong.
    """
    if Path(word).is_dir() or is_remote(word):
        dataset = open_set(word)
        made_by = dataset.manifest("train").tokenizer
        settings = {key: value for key, value in made_by.settings.items() if value is not None}
        data = load_data({"path": word, "tokenizer": {"use": made_by.use, **settings}}, overrides, plugins)
        return dataset, data.tokenizer.config.build()
    data = load(word, overrides, plugins).data
    if not is_prepared(data.path):
        raise DataError(f"{data.path}: not prepared yet; genmem data prepare {word} does that")
    return open_dataset(data), data.tokenizer.config.build()


def draw_numbers(dataset: Dataset, split: Split, num: int, seed: int) -> np.ndarray:
    """Some samples of a split, spread over all of it, the same for a seed; ascending."""
    count = dataset.count(split)
    if count == 0:
        raise DataError(f"{dataset.path}: there are no {split} samples")
    return np.sort(np.random.default_rng(seed).choice(count, min(num, count), replace=False))


def save_grid(dataset: Dataset, tokenizer: Tokenizer, split: Split, numbers: np.ndarray, file: Path) -> None:
    """Decode them into one PNG: every view there is, a sample's mirrored twin at its right.

    Raises:
        ValueError: A file that does not end in .png.
    """
    if file.suffix.lower() != ".png":
        raise ValueError(f"{file}: pictures are saved as .png")
    shards, restore = dataset.shards(split), Restoration(dataset.spec)
    views = []
    for view in range(dataset.views):
        stored = shards.read("x", numbers, np.full_like(numbers, view))
        views.append(tokenizer.decode(restore(torch.from_numpy(stored))))
    pictures = np.stack(views, 1).reshape(-1, *views[0].shape[1:])
    side = int(np.ceil(np.sqrt(len(pictures))))
    file.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures, columns=side + side % dataset.views).save(file)
