"""A forecast as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from genmem.profiling.forecast import Forecast, Share
from genmem.profiling.report import format_bytes, format_count

SIDE_BY_SIDE = 3
"""Numbers of processes that 80 columns have room for."""


def show(forecast: Forecast) -> Group:
    """The plan, memory of one process by part, and what it reads and takes."""
    shares = forecast.shares
    parts = [shares[first : first + SIDE_BY_SIDE] for first in range(0, len(shares), SIDE_BY_SIDE)]
    tables = [_table(forecast, part) for part in parts]
    return Group(*(Text(line) for line in _plan(forecast)), *tables, *map(Text, _notes(forecast)))


def _plan(forecast: Forecast) -> Iterator[str]:
    yield f"{forecast.name}: {forecast.images:,} images in {forecast.steps:,} steps of {forecast.batch:,}"
    if forecast.flops_per_image is None:
        yield "FLOPs of training not known: a component looks at values"
    else:
        whole = forecast.flops_per_image * forecast.images
        yield f"{format_count(forecast.flops_per_image)}FLOPs an image, {whole:.2e} FLOPs in all"


def _table(forecast: Forecast, shares: Sequence[Share]) -> Table:
    unit, size = _unit(forecast)
    table = Table()
    table.add_column(f"{unit} on\none of", overflow="fold")
    for share in shares:
        table.add_column(f"{share.batching.world}{'*' if share.note else ''}\nDDP", justify="right")
        table.add_column("\nFSDP", justify="right")

    def add(name: str, cell: Callable[[Share], tuple[str, str]]) -> None:
        table.add_row(Text(name), *(text for share in shares for text in cell(share)))

    def add_part(name: str, held: Callable[[Mapping[str, int]], int | None]) -> None:
        add(name, lambda share: (_cell(held(share.ddp), size), _cell(held(share.fsdp), size)))

    add("images a step", lambda share: (f"{share.batching.local}", ""))
    add("forwards × images", lambda share: (f"{share.batching.accumulation} × {share.batching.micro}", ""))
    table.add_section()
    for part in dict.fromkeys(part for share in shares for part in (*share.ddp, *share.fsdp)):
        add_part(part, lambda held, part=part: held.get(part))  # type: ignore[misc]
    table.add_section()
    add_part("all", lambda held: sum(held.values()))
    return table


def _unit(forecast: Forecast) -> tuple[str, int]:
    """One for the whole table, so that its columns can be compared at a glance."""
    most = max(sum(held.values()) for share in forecast.shares for held in (share.ddp, share.fsdp))
    return ("GiB", 2**30) if most >= 2**30 else ("MiB", 2**20)


def _cell(held: int | None, unit: int) -> str:
    return "-" if held is None else f"{held / unit:.3f}"


def _notes(forecast: Forecast) -> Iterator[str]:
    for share in forecast.shares:
        if share.note:
            yield f"* {share.batching.world} processes: {share.note}"
    yield from _reading(forecast)
    if forecast.images_per_s is None:
        yield "how long it takes: --images-per-s N, of all processes together"
    else:
        seconds = forecast.images / forecast.images_per_s
        yield f"at {forecast.images_per_s:,.0f} images/s: {duration(seconds)}"


def _reading(forecast: Forecast) -> Iterator[str]:
    read = forecast.record_bytes
    if not read:
        yield "bytes read: only the tokenizer, built, knows how a sample is stored"
        return
    each = sum(read.values())
    parts = " + ".join(f"{name} {size:,}" for name, size in read.items())
    yield f"read of a sample: {each:,} bytes ({parts})"
    if forecast.images_per_s is not None:
        whole = each * forecast.images_per_s
        worlds = [share.batching.world for share in forecast.shares]
        per = ", ".join(f"{format_bytes(whole / world)}/s by one of {world}" for world in worlds)
        yield f"read at {forecast.images_per_s:,.0f} images/s: {format_bytes(whole)}/s in all, {per}"


def duration(seconds: float) -> str:
    """Days, hours and minutes; seconds where it is less than a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return " ".join(
        f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count
    )
