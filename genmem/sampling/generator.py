"""Generates samples by index.

Shapes: B batch, C H W sample, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn

from genmem.building import Shapes
from genmem.conditioning import Conditioner
from genmem.contracts import Guidance, Interpolant, Sampler
from genmem.draws import Draws
from genmem.recipe.tables import Recipe
from genmem.sampling.evaluation import NetworkEvaluation


class Generated(NamedTuple):
    """A batch of samples and what they were made from."""

    x: Tensor
    """(B, C, H, W)."""

    index_B: Tensor
    label_B: Tensor | None
    """Labels given to the network."""

    row_B: Tensor | None
    """Rows of the conditioning memory; None without one, or where rows were given from outside."""

    evaluations_B: Tensor
    """int64: network evaluations of each sample; a guided one counts two."""

    calls: int
    """Calls of the network, of all samples together."""

    @property
    def evaluations(self) -> int:
        """The most that any of the samples took."""
        return int(self.evaluations_B.max())


@attrs.frozen(kw_only=True)
class Generator:
    """A network with everything it takes to sample from it. Stateless between calls."""

    backbone: nn.Module
    interpolant: Interpolant
    sampler: Sampler
    conditioner: Conditioner
    sample_shape: tuple[int, int, int]
    num_classes: int
    device: torch.device
    guidance: Guidance | None = None
    precision: str = "fp32"

    labels: str = "uniform"
    """How labels are dealt: "uniform", drawn one by one, or "balanced", by number in turn."""

    def sample(self, index_B: Tensor, seed: int, memory_BKE: Tensor | None = None) -> Generated:
        """Samples number `index_B` of this seed.

        Args:
            index_B: int64 numbers; each fixes its sample's noise, label, row and every draw.
            seed: Which set of samples.
            memory_BKE: Rows to condition on, in place of the store's own choice.
        """
        draws = Draws(seed, index_B.to(self.device))
        noise = draws.normal("initial-noise", self.sample_shape)
        label_B = self._labels(draws)
        row_B = None
        store = self.conditioner.store
        if store is not None and memory_BKE is None:
            row_B = store.choose(draws, label_B, noise)
            memory_BKE = store.rows(row_B)
        cond = self.conditioner.generate(label_B, memory_BKE)
        evaluate = NetworkEvaluation(self.backbone, self.interpolant, cond, self.guidance, self.precision)
        with torch.no_grad():
            x = self.sampler(evaluate, noise, draws)
        return Generated(x, index_B, label_B, row_B, evaluate.evaluations_B, evaluate.calls)

    def batches(
        self, index_N: Tensor, seed: int, batch: int, memory_NKE: Tensor | None = None
    ) -> Iterator[Generated]:
        """`sample`, at most `batch` at a time."""
        for start in range(0, len(index_N), batch):
            piece = slice(start, start + batch)
            yield self.sample(index_N[piece], seed, None if memory_NKE is None else memory_NKE[piece])

    def _labels(self, draws: Draws) -> Tensor | None:
        if not self.conditioner.table.label:
            return None
        if self.labels == "balanced":
            return draws.index_B % self.num_classes
        return draws.integers("label", self.num_classes)


def generator_of(
    recipe: Recipe, backbone: nn.Module, conditioner: Conditioner, shapes: Shapes, device: torch.device
) -> Generator:
    """A generator with the recipe's sampler and guidance around a network."""
    return Generator(
        backbone=backbone,
        interpolant=recipe.interpolant.config.build(),
        sampler=recipe.sampler.config.build(),
        guidance=recipe.guidance.config.build() if recipe.guidance else None,
        conditioner=conditioner,
        sample_shape=shapes.sample_shape,
        num_classes=shapes.num_classes,
        device=device,
        precision=recipe.train.precision,
        labels=recipe.evaluate.labels,
    )
