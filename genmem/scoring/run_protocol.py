"""The protocol under which a run is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genmem.contracts import MemoryStore
from genmem.data.dataset import Dataset
from genmem.recipe.tables import Recipe
from genmem.scoring.protocol import LABELS, Protocol
from genmem.scoring.spaces import describe, describe_space


def protocol_of(
    recipe: Recipe, dataset: Dataset, store: MemoryStore | None, seeds: Sequence[int], weights: str
) -> Protocol:
    """Everything that moves this run's scores.

    Args:
        recipe: What was run.
        dataset: Its data; the held-out split is the reference.
        store: The memory that conditions, if any.
        seeds: Of noise and conditions, one for each repetition.
        weights: An EMA's name, or "online".
    """
    options = recipe.evaluate
    spaces = {name: describe_space(seat) for name, seat in options.encoder.items()}
    return Protocol(
        sampler=describe(recipe.sampler),
        steps=recipe.sampler.config.evaluations,
        guidance=describe(recipe.guidance) if recipe.guidance else None,
        conditions={"rule": LABELS[options.labels], "label": recipe.condition.label},
        seeds=tuple(seeds),
        samples=options.samples,
        rounding="clamp, round to nearest",
        decoder={**describe(recipe.data.tokenizer), "weights": dataset.spec.weights},
        # An encoder that learns has learned from the training split; the others tell their weights.
        features={
            "use": " ".join(spaces),
            "weights": dataset.reference_hash("train"),
            "spaces": spaces,
            "lookup": options.copies,
        },
        reference={
            "name": "held-out split",
            "count": dataset.count("test"),
            "hash": dataset.reference_hash("test"),
        },
        weights=weights,
        memory=_memory(store),
        precision=recipe.train.precision,
    )


def _memory(store: MemoryStore | None) -> dict[str, Any] | None:
    if store is None:
        return None
    return {
        "identity": store.fingerprint(),
        "rows": store.num_rows,
        "drawn": "by the store, from the sample's number",
        **store.describe(),
    }
