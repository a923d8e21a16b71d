"""Whether a run finds the data set again that it was trained on, wherever that lies by now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from genmem import collectives
from genmem.data.dataset import Dataset, is_prepared
from genmem.data.errors import DataError
from genmem.data.preparation import prepare
from genmem.recipe.data_table import DataTable
from genmem.training.integrity import load_state
from genmem.training.progress import preparation_progress


def moves_data(override: str) -> bool:
    """Whether it names another place of the set."""
    return override.removeprefix("--").startswith("data.path=")


def open_again(data: DataTable, checkpoint: Path, *, moved: bool = False) -> Dataset:
    """The set that a checkpoint was made with.

    Args:
        data: The run's table.
        checkpoint: Says which set it was.
        moved: Somebody named the place, so that nothing is made there.

    Raises:
        DataError: It is not there and cannot be made; or another one is there.
    """
    there = is_prepared(data.path)
    if moved and not there:
        raise DataError(
            f"{data.path}: no prepared set; data.path names the folder the run's set was moved to"
        )
    lead, console = collectives.rank() == 0, Console(stderr=True)
    if not there and data.source is not None and lead:
        console.print(
            f"{data.path} is not there: it is made again from its source ({data.source.use}) and compared "
            "with the set the run was trained on. --data.path=FOLDER names a set that was moved",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    with preparation_progress(console, shown=lead and not there) as report:
        dataset = prepare(data, report)
    refuse_other_data(dataset, load_state(checkpoint), checkpoint)
    return dataset


def refuse_other_data(dataset: Dataset, state: Mapping[str, Any], checkpoint: Path) -> None:
    """Compare a set with the one of a checkpoint. One prepared anew with the same content is the same.

    Raises:
        DataError: It is another one.
    """
    before, now = state["fingerprints"].get("data"), dataset.fingerprint()
    if before in (None, now):  # imported weights know of no set
        return
    recorded, found = state.get("contents", {}), dataset.contents()
    others = [name for name, content in recorded.items() if found.get(name) != content]
    if recorded and not others:
        return
    what = f", other {', '.join(others)}" if others else ""
    raise DataError(
        f"{dataset.path}: another set than the one the run was trained on (fingerprint {now[:16]}… here, "
        f"{before[:16]}… in {checkpoint}{what}); bring that one back, or name where it lies by "
        "--data.path=FOLDER"
    )
