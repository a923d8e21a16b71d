"""Benchmarks: `genmem bench NAME`. Each keeps beside it the form it compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genmem import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def genmem_commands() -> dict[str, click.Command]:
    """The commands of this plugin."""
    from genmem_bench.commands import bench

    return {"bench": bench}
