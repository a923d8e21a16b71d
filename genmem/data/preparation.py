"""Making a set ready: open it if it is there and the recipe's, build it if it is missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from filelock import FileLock

from genmem import collectives
from genmem.data.dataset import Dataset, is_prepared, open_dataset
from genmem.data.errors import DataError
from genmem.data.format.manifest import Component
from genmem.data.making.building import Report, SetBuilder, Team
from genmem.data.making.specs import find_difference, stored_dtype
from genmem.data.settings import describe_seat
from genmem.recipe.data_table import DataTable, ExpectTable

__all__ = ["Report", "prepare", "refuse_mismatch", "stay_silent"]


def stay_silent(*said: Any) -> None:
    """Says nothing, of whatever it is told."""


def prepare(
    data: DataTable,
    report: Report = stay_silent,
    *,
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = stay_silent,
    together: bool = False,
) -> Dataset:
    """The data set a recipe names; built from its source if it is missing.

    Any number of processes may call this at once: one builds, the others wait. A build that was
    killed goes on with the shards that are missing.

    Args:
        data: The recipe's table.
        report: Called with what is being done, how much is done, and of how much.
        device: Where tokenizer and encoders compute.
        tell: Called with lines for a person: what a sample will hold, and what the set will take.
        together: Every process of the process group calls this, and each builds its share.

    Raises:
        DataError: The set is missing and there is no source; or it was prepared with another
            source, tokenizer or encoder.
    """
    if not is_prepared(data.path):
        if data.source is None:
            raise DataError(
                f"{data.path}: not prepared, and the recipe has no [data.source] to prepare it from; "
                "name one, or set data.path to a prepared folder"
            )
        team = (
            Team(collectives.rank(), collectives.world_size(), collectives.patient_barrier)
            if together
            else Team()
        )
        _build(SetBuilder(data, data.source, team, device, report, tell))
    dataset = open_dataset(data)
    refuse_mismatch(data, dataset)
    return dataset


def _build(builder: SetBuilder) -> None:
    """Build under the folder's lock, which the first process of the team holds for all."""
    folder, team = builder.folder, builder.team
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock") if team.rank == 0 else nullcontext():
        team.wait()
        # Nobody outside the team builds now: either all of the team see the set, or none does.
        if not is_prepared(folder):
            builder.build()
        team.wait()


def refuse_mismatch(data: DataTable, dataset: Dataset) -> None:
    """Compare a set with the recipe.

    Raises:
        DataError: Its source, tokenizer or an encoder is another than the recipe's, its precision
            or its views are not those asked for; both are named.
    """
    manifest = dataset.manifest("train")
    if data.source is not None:
        _refuse(data, "source", manifest.source, describe_seat(data.source))
    _refuse(data, "tokenizer", manifest.tokenizer, describe_seat(data.tokenizer))
    config = data.tokenizer.config
    decoder = config.build().spec(manifest.picture_shape)
    if find_difference(manifest.latent, config, decoder):
        raise DataError(_explain(data, "tokenizer", str(manifest.latent), str(decoder)))
    for name, seat in data.encoder.items():
        fitted = manifest.encoders.get(name)
        found = None if fitted is None else fitted.component
        _refuse(data, f"encoder.{name}", found, describe_seat(seat))
    _refuse_form(data, dataset)
    if data.expect is not None:
        _refuse_unexpected(data, data.expect, dataset)


def _refuse_form(data: DataTable, dataset: Dataset) -> None:
    manifest = dataset.manifest("train")
    if data.views == 2 and manifest.views == 1:
        raise DataError(_explain(data, "views", "1", "2"))
    for dtype in (manifest.latent.dtype, *(feature.dtype for feature in manifest.features.values())):
        if stored_dtype(dtype, data.precision) != dtype:
            raise DataError(_explain(data, "precision", dtype, str(data.precision)))


def _refuse_unexpected(data: DataTable, expect: ExpectTable, dataset: Dataset) -> None:
    found = {
        "sample_shape": (dataset.spec.shape, expect.sample_shape),
        "num_classes": (len(dataset.class_names), expect.num_classes),
        "num_samples": (dataset.count("train"), expect.num_samples or dataset.count("train")),
    }
    found |= {
        f"features.{name}": (dataset.feature_widths.get(name, 0), width)
        for name, width in expect.features.items()
    }
    for key, (there, expected) in found.items():
        if there != expected:
            raise DataError(
                f"{data.path}: data.expect.{key} is {expected}, the set has {there}; "
                "set data.path to the set that is meant, or mend [data.expect]"
            )


def _refuse(data: DataTable, key: str, found: Component | None, asked: Component) -> None:
    if found is None or found.use != asked.use or _given(found) != _given(asked):
        raise DataError(_explain(data, key, str(found or "nothing"), str(asked)))


def _given(component: Component) -> dict[str, Any]:
    """Its settings without those at null: a set may be older than a key that nobody gave."""
    return {name: value for name, value in component.settings.items() if value is not None}


def _explain(data: DataTable, key: str, found: str, asked: str) -> str:
    return (
        f"{data.path}: prepared with data.{key} = {found}, the recipe asks for {asked}; "
        "set data.path to another folder, or delete this one to have it prepared again"
    )
