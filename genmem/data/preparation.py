"""Making a set ready: open it if it is there and the recipe's, build it if it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from genmem.data.building import SetBuilder
from genmem.data.dataset import Dataset, is_prepared
from genmem.data.errors import DataError
from genmem.data.manifest import Component
from genmem.data.settings import describe_seat
from genmem.recipe.data_table import DataTable, ExpectTable

Report = Callable[[str, int, int], None]
"""(what is being done, done, total), called now and then."""


def stay_silent(label: str, done: int, total: int) -> None:
    """A `Report` that says nothing."""


def prepare(data: DataTable, report: Report = stay_silent, *, views: int = 1) -> Dataset:
    """The data set a recipe names; built from its source if it is missing.

    Any number of processes may call this at once: one builds, the others wait. A build that was
    killed goes on with the shards that are missing.

    Args:
        data: The recipe's table.
        report: Called with what is being done, how much is done, and of how much.
        views: 2: store a mirrored twin of everything, when building.

    Raises:
        DataError: The set is missing and there is no source; or it was prepared with another
            source, tokenizer or encoder.
    """
    folder = Path(data.path)
    if not is_prepared(folder):
        if data.source is None:
            raise DataError(
                f"{folder}: not prepared, and the recipe has no [data.source] to prepare it from; "
                "name one, or set data.path to a prepared folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not is_prepared(folder):
                SetBuilder(data, data.source, views).build(report)
    dataset = Dataset(folder)
    refuse_mismatch(data, dataset)
    return dataset


def refuse_mismatch(data: DataTable, dataset: Dataset) -> None:
    """Compare a set with the recipe.

    Raises:
        DataError: Its source, tokenizer or an encoder is another than the recipe's; both are named.
    """
    manifest = dataset.manifest("train")
    if data.source is not None:
        _refuse(data, "source", manifest.source, describe_seat(data.source))
    _refuse(data, "tokenizer", manifest.tokenizer, describe_seat(data.tokenizer))
    spec = data.tokenizer.config.build().spec(manifest.picture_shape)
    if spec != manifest.latent:
        raise DataError(_explain(data, "tokenizer", str(manifest.latent), str(spec)))
    for name, seat in data.encoder.items():
        fitted = manifest.encoders.get(name)
        found = None if fitted is None else fitted.component
        _refuse(data, f"encoder.{name}", found, describe_seat(seat))
    if data.expect is not None:
        _refuse_unexpected(data, data.expect, dataset)


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
    if found != asked:
        raise DataError(_explain(data, key, str(found or "nothing"), str(asked)))


def _explain(data: DataTable, key: str, found: str, asked: str) -> str:
    return (
        f"{data.path}: prepared with data.{key} = {found}, the recipe asks for {asked}; "
        "set data.path to another folder, or delete this one to have it prepared again"
    )
