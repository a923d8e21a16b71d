"""What `genmem profile` does."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console

from genmem.building import Builder, prepare_files, shapes_of
from genmem.contracts import Conditioning, MemoryStore
from genmem.data.dataset import Dataset
from genmem.profiling.report import CostReport, measure_costs
from genmem.recipe import load
from genmem.recipe.tables import Recipe
from genmem.training.progress import preparation_progress

BATCH = 2
"""Samples measured; counts are told for each, so that the largest networks fit."""


def profile(source: str, overrides: tuple[str, ...], plugins: tuple[Path, ...], *, as_json: bool) -> None:
    """Print what one forward of a recipe's network costs, and what its memories hold.

    Raises:
        RecipeError: What is wrong with the recipe.
    """
    report = cost_of(load(source, overrides, plugins))
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        Console().print(report)


def cost_of(recipe: Recipe, dataset: Dataset | None = None) -> CostReport:
    """Costs of a recipe on the CPU, two samples at once; shards and banks are made if missing."""
    device = torch.device("cpu")
    if dataset is None:
        with preparation_progress(Console(stderr=True), shown=True) as report:
            dataset = prepare_files(recipe, report)
    builder = Builder(recipe, shapes_of(dataset))
    memories = builder.memories(device)
    backbone = builder.backbone(memories, device)
    inputs = _example(builder, memories)
    return measure_costs(recipe.name, backbone, inputs, memories)


def _example(builder: Builder, memories: dict[str, MemoryStore]) -> tuple[torch.Tensor, ...]:
    """x_t, t and conditioning of one local batch, of zeros."""
    recipe, facts = builder.recipe, builder.facts(memories)
    batch = min(BATCH, recipe.train.batch)
    label = torch.zeros(batch, dtype=torch.int64) if facts.num_classes else None
    memory = torch.zeros(batch, 1, facts.condition_width) if facts.condition_width else None
    span = torch.zeros(batch) if "span" in recipe.interpolant.config.consumes else None
    cond = Conditioning(label, memory, None, span)
    return torch.zeros(batch, *facts.sample_shape), torch.full((batch,), 0.5), cond  # type: ignore[return-value]
