"""From a recipe and a data set to built components, in the order their facts allow.

Memories first (they give widths), then the backbone, then objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import nn

from genmem.conditioning import Conditioner
from genmem.contracts import Facts, MemoryStore
from genmem.data.dataset import Dataset
from genmem.data.preparation import Report, prepare, stay_silent
from genmem.recipe.tables import Recipe
from genmem.training.assembly import Assembly


@attrs.frozen(kw_only=True)
class Shapes:
    """What the data set fixes. Checkpoints record it, so that samples need no data set."""

    sample_shape: tuple[int, int, int]
    """C, H, W."""

    num_classes: int
    num_samples: int
    feature_widths: Mapping[str, int] = attrs.field(factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint's state."""
        return attrs.asdict(self)

    @classmethod
    def of_json(cls, recorded: Mapping[str, Any]) -> Shapes:
        """What a checkpoint recorded."""
        channels, height, width = recorded["sample_shape"]
        return cls(**{**recorded, "sample_shape": (channels, height, width)})


@attrs.frozen
class Builder:
    """Builds the parts of one recipe for one data set."""

    recipe: Recipe
    shapes: Shapes

    def memories(self, device: torch.device) -> dict[str, MemoryStore]:
        """Every `[memory.NAME]`, on the device."""
        facts = self._facts({}, {})
        stores = {name: seat.config.build(facts) for name, seat in self.recipe.memory.items()}
        for store in stores.values():
            store.to(device)
        return stores

    def facts(self, memories: Mapping[str, MemoryStore]) -> Facts:
        """What backbone and objectives may know."""
        widths = {name: store.width for name, store in memories.items()}
        return self._facts(widths, {name: store.num_rows for name, store in memories.items()})

    def backbone(self, memories: Mapping[str, MemoryStore], device: torch.device) -> nn.Module:
        """The network, initialised from the recipe's seed."""
        torch.manual_seed(self.recipe.train.seed)
        return self.recipe.backbone.config.build(self.facts(memories)).to(device)

    def assembly(self, memories: Mapping[str, MemoryStore], device: torch.device) -> Assembly:
        """Everything trainable, in one module."""
        backbone = self.backbone(memories, device)
        facts = self.facts(memories)
        tables = self.recipe.objective
        objectives = {name: table.objective.config.build(facts) for name, table in tables.items()}
        return Assembly(
            backbone,
            objectives,
            tables,
            self.recipe.interpolant.config.build(),
            Conditioner(self.recipe.condition, memories),
            memories,
            depth=max(facts.tap_widths),
        ).to(device)

    def _facts(self, memory_widths: Mapping[str, int], memory_rows: Mapping[str, int]) -> Facts:
        recipe, shapes = self.recipe, self.shapes
        conditioning = recipe.condition.memory
        return Facts(
            sample_shape=shapes.sample_shape,
            output_channels=recipe.interpolant.config.output_channels(shapes.sample_shape[0]),
            predicts_velocity=recipe.interpolant.config.predicts_velocity,
            num_classes=self._classes(),
            num_samples=shapes.num_samples,
            views=recipe.data.views or 1,
            batch=recipe.train.batch,
            condition_width=memory_widths.get(conditioning, 0) if conditioning else 0,
            memory_widths=memory_widths,
            memory_rows=memory_rows,
            tap_widths=recipe.backbone.config.tap_widths,
            feature_widths=shapes.feature_widths,
        )

    def _classes(self) -> int:
        if not self.recipe.condition.label:
            return 0
        if self.shapes.num_classes == 0:
            raise ValueError("condition.label = true, but the data set has no labels; leave it out")
        return self.shapes.num_classes


def shapes_of(dataset: Dataset) -> Shapes:
    """What this data set fixes for the components."""
    return Shapes(
        sample_shape=dataset.spec.shape,
        num_classes=len(dataset.class_names),
        num_samples=dataset.count("train"),
        feature_widths=dataset.feature_widths,
    )


def expected_shapes(recipe: Recipe) -> Shapes:
    """What `[data.expect]` says of the set, for building without it.

    Raises:
        ValueError: The recipe does not say.
    """
    expect = recipe.data.expect
    if expect is None:
        raise ValueError(
            f"recipe {recipe.name!r} does not say what its data holds, so it cannot be built without them; "
            "add [data.expect] with sample_shape and num_classes, or prepare the set"
        )
    return Shapes(
        sample_shape=expect.sample_shape,
        num_classes=expect.num_classes,
        num_samples=expect.num_samples,
        feature_widths=expect.features,
    )


def prepare_files(recipe: Recipe, report: Report = stay_silent) -> Dataset:
    """The recipe's shards, then the files of its memories; what is missing is made. On one process.

    Raises:
        genmem.data.errors.DataError, ValueError: What is there is another recipe's.
    """
    dataset = prepare(recipe.data, report)
    for seat in recipe.memory.values():
        seat.config.prepare(dataset)
    return dataset
