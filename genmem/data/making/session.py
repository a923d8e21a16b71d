"""What `genmem data prepare` does: one set, on any number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from genmem import collectives
from genmem.console import Terminal
from genmem.data.preparation import prepare
from genmem.devices import resolve
from genmem.recipe import load, load_data
from genmem.recipe.data_table import DataTable
from genmem.training.launch import process_group
from genmem.training.progress import preparation_progress


@attrs.frozen(kw_only=True)
class Request:
    """What to prepare, in words, so that every process can read it for itself."""

    recipe: str = ""
    """A file or a shipped name; empty where `raw` is a `[data]` table of its own."""

    raw: Mapping[str, Any] = attrs.field(factory=dict)
    overrides: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    device: str = ""
    """Of tokenizer and encoders; the recipe's, or "auto", where it is empty."""

    def read(self) -> tuple[DataTable, str]:
        """The table, and the device.

        Raises:
            RecipeError: Everything that is wrong.
        """
        if not self.recipe:
            return load_data(self.raw, self.overrides, self.plugins), self.device or "auto"
        recipe = load(self.recipe, self.overrides, self.plugins)
        return recipe.data, self.device or recipe.train.device


def prepare_set(request: Request) -> None:
    """Prepare it, and say what was made. Every process of a group calls this.

    Raises:
        DataError, ValueError: As `prepare`.
    """
    data, name = request.read()
    device = resolve(name)
    with process_group(device):
        lead = collectives.rank() == 0
        console = Terminal()

        def tell(line: str) -> None:
            console.print(line, highlight=False, soft_wrap=True)

        with preparation_progress(console, shown=lead) as report:
            dataset = prepare(data, report, device=device, tell=tell, together=True)
        if lead:
            skipped = sum(len(dataset.manifest(s).provenance.get("skipped", ())) for s in ("train", "test"))
            left_out = f", {skipped} unreadable left out (genmem data info lists them)" if skipped else ""
            train, test = dataset.count("train"), dataset.count("test")
            tell(f"{data.path}: {train:,} training, {test:,} held out{left_out}")
