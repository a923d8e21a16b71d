"""The table of `genmem plugins`."""

from __future__ import annotations

from typing import Any, NamedTuple

from genmem.host import Catalog, Plugin
from genmem.host.errors import PluginError

WIDE = 10_000


class Row(NamedTuple):
    """One line: a component, a command, or a plugin that offers nothing because of its status."""

    kind: str
    name: str
    description: str
    provider: str
    status: str


def rows_of(catalog: Catalog) -> list[Row]:
    """Components and commands in order, then everything that is not as it should be."""
    rows = [
        Row(one.kind, one.name, one.description, _provider(one.plugin), "active")
        for one in catalog.components()
    ]
    for loaded in catalog.loaded:
        for command in loaded.commands:
            clash = catalog.command_clash(command.name)
            help_ = command.command.get_short_help_str(limit=80)
            rows.append(
                Row("command", command.name, clash or help_, _provider(loaded.plugin), _status(clash))
            )
    for offer in catalog.clashes():
        for one in offer:
            rows.append(
                Row(one.kind, one.name, _clash(catalog, one.kind, one.name), _provider(one.plugin), "clash")
            )
    for plugin in catalog.plugins:
        if plugin.status in ("broken", "blocked"):
            rows.append(Row("plugin", plugin.name, plugin.error, _provider(plugin), plugin.status))
    return rows


def _status(clash: str | None) -> str:
    return "active" if clash is None else "clash"


def _clash(catalog: Catalog, kind: str, name: str) -> str:
    try:
        catalog.find(kind, name)
    except PluginError as error:
        return str(error)
    raise AssertionError(f"{kind} {name!r} does not clash")


def _provider(plugin: Plugin) -> str:
    return plugin.provider if plugin.file else f"{plugin.provider} ({plugin.name})"


def as_data(catalog: Catalog) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "plugins": [
            {
                "name": plugin.name,
                "module": plugin.module,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "status": plugin.status,
                "error": plugin.error,
                "sha256": plugin.sha256,
            }
            for plugin in catalog.plugins
        ],
        "components": [row._asdict() for row in rows_of(catalog)],
    }


def show(catalog: Catalog) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "name", "description", "provided by", "status"):
        table.add_column(column, overflow="fold", no_wrap=column in ("kind", "status"))
    for row in rows_of(catalog):
        table.add_row(*map(Text, row), style="red" if row.status in ("broken", "clash") else None)
    console = Console()
    if not console.is_terminal:  # a row is a line, for grep
        console = Console(width=WIDE)
    console.print(table)
