"""Scores a run: while it trains, and in full when it ends.

Reference is the held-out split. Held-out rows of a memory are drawn from one half of it and scored
against the other, since a row can say nearly all of its own picture. Every process looks at its share
of whatever is scored; the first one does the arithmetic.
Shapes: N samples, K memories a sample, E memory width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.neighbours import QUANTILE, copy_rate, nearest
from genmem.scoring.sets.pictures import DrawnPictures, PictureSet, as_set
from genmem.scoring.sets.prepared import SplitPictures
from genmem.scoring.spaces import Seen, open_spaces, see

Row = dict[str, float]

Shown: TypeAlias = "np.ndarray | PictureSet"
"""Pictures to score: uint8 (N, H, W, C), or a set that is read in pieces."""

_MOST_ROWS = 10_000
"""Of one set in an energy distance, whose cost is their square; evenly spaced ones beyond."""


class Evaluation:
    """References and measures of one recipe on one data set."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
        """Read the reference pictures of both splits once; `[evaluate]` says in which spaces. Collective.

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
        self.copies = recipe.evaluate.copies or ""
        if self.copies:
            _require_held_out(dataset.count("test"))
        # Nearest pictures are shown of every run, if no score asks for them in the first space there is.
        self._near = self.copies or next(iter(recipe.evaluate.encoder), "")
        self.spaces = open_spaces(recipe.evaluate.encoder, self.train, self.test, self._near, device)
        self.lookup = self.spaces[self.copies] if self.copies else None
        self.classifier = self._fit_classifier()

    def row(self, pictures: Shown, half: np.ndarray | None = None) -> Row:
        """Distances of pictures to the held-out split, or to a half of it. Collective; empty but on rank 0.

        Args:
            pictures: What is scored; the training pictures themselves are known already.
            half: Numbers of held-out pictures to compare with; all if absent.
        """
        return self._distances(self._see(pictures), half)

    def scores(
        self, pictures: Shown, labels_N: np.ndarray | None = None, half: np.ndarray | None = None
    ) -> Row:
        """Every score of pictures: distances, labels, nearness. Collective; empty but on rank 0.

        Args:
            pictures: As of `row`.
            labels_N: The label each was asked to have, -1 where unknown; None where nothing was asked.
            half: As of `row`.
        """
        seen = self._see(pictures)
        return self._distances(seen, half) | self._agreement(seen, labels_N) | self._closeness(seen)

    def held_out_scores(self) -> Row:
        """What the last columns say of the held-out pictures themselves; empty but on rank 0."""
        labels = self.dataset.labels("test") if self.dataset.class_names else None
        seen = {name: space.test for name, space in self.spaces.items()}
        return self._agreement(seen, labels) | self._closeness(seen)

    def held_out_loss(self, backbone: nn.Module, generator: Generator) -> float:
        """The denoising loss on held-out samples, with the same noise and times every time. Collective."""
        interpolant = generator.interpolant
        total, size = torch.zeros((), dtype=torch.float64), self.recipe.evaluate.batch
        first, stop = collectives.share(self.dataset.count("test"))

        def predict(x_t: Tensor, t: Tensor, cond: object) -> Prediction:
            return cast(Prediction, backbone(x_t, t, cond))

        for start in range(first, stop, size):
            numbers = np.arange(start, min(start + size, stop))
            batch = self.held_out.batch_of(numbers)
            draws = Draws(self.recipe.evaluate.seed, batch.index_B)
            noise = draws.normal("noise", tuple(batch.x.shape[1:]))
            cond = generator.conditioner.held_out(batch)
            with torch.no_grad():
                result = interpolant.regress(predict, batch.x, noise, interpolant.times(draws), cond)
            total += result.loss_B.sum().double().cpu()
        return float(collectives.add(total)) / self.dataset.count("test")

    # the rows of the final table -------------------------------------------------------------

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

    def noise(self) -> PictureSet:
        """Pictures of pure noise, as many as are scored."""

        def draw(numbers_B: np.ndarray) -> np.ndarray:
            draws = Draws(self.recipe.evaluate.seed, torch.from_numpy(numbers_B))
            return self.tokenizer.decode(draws.normal("initial-noise", self.dataset.spec.shape))

        return self.drawn("noise", draw)

    def gaussian(self) -> PictureSet | None:
        """Pictures from a Gaussian with the training pictures' mean and covariance; None of large ones.

        Collective.
        """
        if math.prod(self.train.shape) > gaussian.MAX_WIDTH:
            return None
        found = gaussian.fit_pictures(self.train)
        return self.drawn(
            "Gaussian",
            lambda numbers_B: found.pictures(
                Draws(self.recipe.evaluate.seed, torch.from_numpy(numbers_B)), self.train.shape
            ),
        )

    def drawn(self, name: str, draw: Callable[[np.ndarray], np.ndarray]) -> PictureSet:
        """As many pictures as are scored, made from their numbers when they are read."""
        return DrawnPictures(name, self.train.shape, self.recipe.evaluate.samples, draw)

    def neighbours(self, pictures: np.ndarray, k: int = 1) -> np.ndarray:
        """Numbers (N, k) of the nearest training pictures; none where there is no space to look in."""
        space = self.spaces.get(self._near)
        if space is None:
            return np.empty((len(pictures), 0), np.int64)
        return nearest(space.features(pictures), space.train.rows_ND, k)[1].cpu().numpy()

    def _see(self, pictures: Shown) -> Mapping[str, Seen]:
        if pictures is self.train:
            return {name: space.train for name, space in self.spaces.items()}
        encoders = {name: space.encoder for name, space in self.spaces.items()}
        return see(encoders, as_set(pictures), self.copies)

    def _distances(self, seen: Mapping[str, Seen], half: np.ndarray | None) -> Row:
        found: Row = {}
        if collectives.rank() != 0:
            return found
        for name, space in self.spaces.items():
            found[f"fd/{name}"] = frechet(seen[name].moments, space.reference(half))
            if space is self.lookup:
                reference = space.test.rows_ND if half is None else space.test.rows_ND[half]
                found[f"energy/{name}"] = energy_distance(_some(seen[name].rows_ND), reference)
        return found

    def _closeness(self, seen: Mapping[str, Seen]) -> Row:
        """Nearest training picture and share of copies."""
        if self.lookup is None or collectives.rank() != 0:
            return {}
        rows_ND = seen[self.copies].rows_ND
        found = copy_rate(rows_ND, self.lookup.test.rows_ND, self.lookup.train.rows_ND)
        return {"nearest": found.sample_distance, "copies": found.rate}

    def _agreement(self, seen: Mapping[str, Seen], labels_N: np.ndarray | None) -> Row:
        """Share of pictures that the classifier gives the label they were asked to have."""
        if self.classifier is None or labels_N is None or (labels_N < 0).all():
            return {}
        known_N = labels_N >= 0
        rows_ND = seen[self.copies].rows_ND[known_N]
        return {"labels": self.classifier.accuracy(rows_ND, labels_N[known_N])}

    def _fit_classifier(self) -> classifier.Classifier | None:
        if self.lookup is None or not self.dataset.class_names or collectives.rank() != 0:
            return None
        classes = len(self.dataset.class_names)
        labels_N = self.dataset.labels("train")[self.train_numbers]
        return classifier.fit(self.lookup.train.rows_ND, labels_N, classes)


def _require_held_out(count: int) -> None:
    if count * QUANTILE < 1:
        raise ValueError(
            f"evaluate.copies: nearness is judged by the nearest {QUANTILE:.0%} of held-out pictures; the "
            f"set has only {count} of them; hold out {1 / QUANTILE:.0f} or more, or remove evaluate.copies"
        )


def _some(rows_ND: np.ndarray) -> np.ndarray:
    count = min(len(rows_ND), _MOST_ROWS)
    return rows_ND[np.arange(count) * len(rows_ND) // max(1, count)]
