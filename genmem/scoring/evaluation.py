"""Scores a run: while it trains, and in full when it ends.

Reference is the held-out split. Held-out rows of a memory are drawn from one half of it and scored
against the other, since a row can say nearly all of its own picture.
Shapes: N samples, K memories a sample, E memory width.
"""

from __future__ import annotations

import math
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from genmem import collectives
from genmem.conditioning import rows_are_of
from genmem.contracts import Prediction
from genmem.data.dataset import Dataset
from genmem.data.streaming.stream import Stream
from genmem.draws import Draws
from genmem.recipe.tables import Recipe
from genmem.sampling.gallery import Gallery
from genmem.sampling.generator import Generator
from genmem.scoring import classifier, gaussian
from genmem.scoring.metrics.energy import energy_distance
from genmem.scoring.neighbours import QUANTILE, copy_rate, nearest
from genmem.scoring.sets.prepared import SplitPictures
from genmem.scoring.spaces import Space, open_spaces

Row = dict[str, float]

Shown: TypeAlias = "np.ndarray | SplitPictures"
"""Pictures to score: uint8 (N, H, W, C), or a split of the data set."""

_MOST_ROWS = 10_000
"""Of one set in an energy distance, whose cost is their square; evenly spaced ones beyond."""


class Evaluation:
    """References and measures of one recipe on one data set."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
        """Read the reference pictures of both splits once; `[evaluate]` says in which spaces.

        Raises:
            ValueError: Too few held-out pictures for what is asked.
        """
        self.recipe, self.dataset = recipe, dataset
        self.training, self.held_out = (
            Stream(dataset.shards(split), dataset.spec, seed=0, batch=1, device=device)
            for split in ("train", "test")
        )
        self.tokenizer = recipe.data.tokenizer.config.build()
        self.train_numbers = dataset.sound("train")
        self.train = SplitPictures(dataset, "train", self.tokenizer, self.train_numbers)
        self.test = SplitPictures(dataset, "test", self.tokenizer)
        copies = recipe.evaluate.copies
        if copies:
            _require_held_out(dataset.count("test"))
        # Nearest pictures are shown of every run, if no score asks for them in the first space there is.
        self._near = copies or next(iter(recipe.evaluate.encoder), "")
        self.spaces = open_spaces(recipe.evaluate.encoder, self.train, self.test, self._near, device)
        self.lookup = self.spaces[copies] if copies else None
        self.classifier = self._fit_classifier()

    def row(self, pictures: Shown, half: np.ndarray | None = None) -> Row:
        """Distances of pictures to the held-out split, or to a half of it.

        Args:
            pictures: uint8 (N, H, W, C), or the training pictures themselves.
            half: Numbers of held-out pictures to compare with; all if absent.
        """
        found: Row = {}
        for name, space in self.spaces.items():
            known = pictures is self.train
            found[f"fd/{name}"] = space.distance(None if known else self._features(space, pictures), half)
            if space is self.lookup:
                reference = space.test_ND if half is None else space.test_ND[half]
                found[f"energy/{name}"] = energy_distance(_some(self._features(space, pictures)), reference)
        return found

    def held_out_loss(self, backbone: nn.Module, generator: Generator) -> float:
        """The denoising loss on held-out samples, with the same noise and times every time."""
        interpolant = generator.interpolant
        total, count = 0.0, self.dataset.count("test")

        def predict(x_t: Tensor, t: Tensor, cond: object) -> Prediction:
            return cast(Prediction, backbone(x_t, t, cond))

        for start in range(0, count, self.recipe.evaluate.batch):
            numbers = np.arange(start, min(start + self.recipe.evaluate.batch, count))
            batch = self.held_out.batch_of(numbers)
            draws = Draws(self.recipe.evaluate.seed, batch.index_B)
            noise = draws.normal("noise", tuple(batch.x.shape[1:]))
            cond = generator.conditioner.held_out(batch)
            with torch.no_grad():
                result = interpolant.regress(predict, batch.x, noise, interpolant.times(draws), cond)
            total += float(result.loss_B.sum())
        return total / count

    # the rows of the final table -------------------------------------------------------------

    def closeness(self, pictures: np.ndarray, half: np.ndarray | None = None) -> Row:
        """Nearest training picture and share of copies."""
        if self.lookup is None:
            return {}
        space = self.lookup
        held_out = space.test_ND if half is None else space.test_ND[half]
        found = copy_rate(space.features(pictures), held_out, space.train_ND)
        return {"nearest": found.sample_distance, "copies": found.rate}

    def held_out_closeness(self) -> Row:
        """The same of the held-out pictures themselves."""
        if self.lookup is None:
            return {}
        found = copy_rate(self.lookup.test_ND, self.lookup.test_ND, self.lookup.train_ND)
        return {"nearest": found.sample_distance, "copies": found.rate}

    def agreement(self, pictures: Shown, labels_N: np.ndarray | None) -> Row:
        """Share of pictures that the classifier gives the label they were asked to have."""
        if self.classifier is None or self.lookup is None or labels_N is None or (labels_N < 0).all():
            return {}
        known_N = labels_N >= 0
        features_ND = self._features(self.lookup, pictures)[known_N]
        return {"labels": self.classifier.accuracy(features_ND, labels_N[known_N])}

    def asked_labels(self, gallery: Gallery, generator: Generator) -> np.ndarray | None:
        """The labels samples should have: those given, or those of their memory rows, -1 where unknown.

        None where rows come from another set, whose classes may be others.
        """
        store = generator.conditioner.store
        if gallery.label_N is not None:
            return gallery.label_N
        if store is None or gallery.row_N is None or not self.dataset.class_names:
            return None
        if not rows_are_of(store, self.dataset):
            return None
        return store.labels_of(torch.from_numpy(gallery.row_N)).cpu().numpy()

    def noise(self, num: int) -> np.ndarray:
        """Pictures of pure noise."""
        draws = Draws(self.recipe.evaluate.seed, torch.arange(num))
        return self.tokenizer.decode(draws.normal("initial-noise", self.dataset.spec.shape))

    def gaussian(self, num: int) -> np.ndarray | None:
        """Pictures from a Gaussian with the training pictures' mean and covariance; None of large ones."""
        if math.prod(self.train.shape) > gaussian.MAX_WIDTH:
            return None
        return gaussian.draw_pictures(self.train, Draws(self.recipe.evaluate.seed, torch.arange(num)))

    def neighbours(self, pictures: np.ndarray, k: int = 1) -> np.ndarray:
        """Numbers (N, k) of the nearest training pictures; none where there is no space to look in."""
        space = self.spaces.get(self._near)
        if space is None:
            return np.empty((len(pictures), 0), np.int64)
        return nearest(space.features(pictures), space.train_ND, k)[1].cpu().numpy()

    def _features(self, space: Space, pictures: Shown) -> np.ndarray:
        """(N, D); those of the splits are known already."""
        if isinstance(pictures, np.ndarray):
            return space.features(pictures)
        return space.train_ND if pictures is self.train else space.test_ND

    def _fit_classifier(self) -> classifier.Classifier | None:
        if self.lookup is None or not self.dataset.class_names or collectives.rank() != 0:
            return None
        classes = len(self.dataset.class_names)
        labels_N = self.dataset.labels("train")[self.train_numbers]
        return classifier.fit(self.lookup.train_ND, labels_N, classes)


def _require_held_out(count: int) -> None:
    if count * QUANTILE < 1:
        raise ValueError(
            f"evaluate.copies: nearness is judged by the nearest {QUANTILE:.0%} of held-out pictures; the "
            f"set has only {count} of them; hold out {1 / QUANTILE:.0f} or more, or remove evaluate.copies"
        )


def _some(rows_ND: np.ndarray) -> np.ndarray:
    count = min(len(rows_ND), _MOST_ROWS)
    return rows_ND[np.arange(count) * len(rows_ND) // max(1, count)]
