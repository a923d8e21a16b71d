"""What an unfinished preparation is about: another one is not mixed with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmem.contracts import SourceConfig
from genmem.data.errors import DataError
from genmem.data.files import replace_file
from genmem.data.format.manifest import FORMAT
from genmem.data.settings import describe_seat
from genmem.recipe.data_table import DataTable
from genmem.recipe.seats import Seat

PLAN = "preparation.json"


def keep_plan(folder: Path, data: DataTable, source: Seat[SourceConfig], weights: Mapping[str, str]) -> None:
    """Write down what is being built, or compare it with what an interrupted build wrote down.

    Raises:
        DataError: The folder holds another unfinished preparation, or tars of somebody else.
    """
    path, plan = folder / PLAN, {**_describe(data, source), **weights}
    if path.is_file():
        _refuse_other(path, plan)
    elif leftover := next(folder.glob("*/*.tar"), None):
        raise DataError(
            f"{leftover}: lies where a set is to be prepared, but train/ and test/ have no manifests; "
            "move it away, or set data.path to another folder"
        )
    else:
        with replace_file(path) as file:
            file.write(json.dumps(plan, indent=2).encode())


def _describe(data: DataTable, source: Seat[SourceConfig]) -> dict[str, str]:
    seats: dict[str, Seat[Any]] = {
        "data.source": source,
        "data.tokenizer": data.tokenizer,
        **{f"data.encoder.{name}": seat for name, seat in data.encoder.items()},
    }
    keys = ("shard_size", "views", "precision", "damage")
    return {
        **{name: str(describe_seat(seat)) for name, seat in seats.items()},
        **{f"data.{key}": str(getattr(data, key)) for key in keys},
        "format": str(FORMAT),
    }


def _refuse_other(path: Path, plan: Mapping[str, str]) -> None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; delete the folder to prepare it from the start")
    for key in sorted({*found, *plan}):
        if found.get(key) != plan.get(key):
            raise DataError(
                f"{path}: an unfinished preparation with {key} = {found.get(key)} lies here, this one has "
                f"{plan.get(key)}; delete the folder, or set data.path to another"
            )
