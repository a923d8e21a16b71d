"""The scores of a set of pictures, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from genmem.scoring.choosing import SCORES

_ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print a table, then a line for each thing the numbers alone do not say."""
    if "scores" in record:
        console.print(_table(record))
    for line in _notes(record):
        console.print(line, highlight=False, soft_wrap=True)


def _table(record: Mapping[str, Any]) -> Table:
    pictures, reference = record["pictures"], record["reference"]
    against = f"{reference['count']:,} pictures of " if reference["count"] else ""
    title = f"{pictures['count']:,} pictures of {pictures['name']}, against {against}{reference['name']}"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("score", record["encoder"]["use"], "protocol"):
        table.add_column(Text(heading), justify="right" if heading == record["encoder"]["use"] else "left")
    for name, found in record["scores"].items():
        score = SCORES[name]
        value = f"{found['value']:.{score.digits}f}"
        if found["deviation"] is not None:
            value += f" ± {found['deviation']:.{score.digits}f}"
        table.add_row(f"{score.title} {_ARROWS[score.better]}", value, found["protocol"])
    return table


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    if "scores" in record:
        encoder, count = record["encoder"], record["pictures"]["count"]
        yield f"weights of {encoder['use']}: {encoder['weights'][:12]}"
        width = encoder["widths"]["pooled"]
        if "fd" in record["scores"] and count <= width:
            yield (
                f"{count:,} pictures for {width:,} dimensions: the Fréchet distance is too large by the same "
                "amount for equal counts only; compare nothing else with it"
            )
        if record["reference"]["origin"] == "custom":
            yield (
                f"{record['reference']['name']} does not say whose features it is of, nor of how many; "
                f'it was taken for {encoder["use"]}\'s: reference "custom"'
            )
    if record.get("saved"):
        yield f"reference kept in {record['saved']}"
