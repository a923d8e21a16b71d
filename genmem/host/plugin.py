"""What the host knows of a plugin, and of the things it offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    import click

Status = Literal["found", "active", "blocked", "broken"]

FILE = "file"
"""Stands where a distribution's name would, for an un-packaged plugin."""


@attrs.frozen(kw_only=True)
class Plugin:
    """One plugin: an entry point of the group `genmem`, or a single file."""

    name: str
    """Its entry point's name, or the file's stem."""

    module: str
    """What the entry point names, or the file's path."""

    distribution: str
    """Who installed it; "file" for a single file."""

    version: str
    """Of the distribution; empty for a single file."""

    status: Status = "found"
    """found -> active, blocked (`GENMEM_BLOCK`) or broken."""

    error: str = ""
    """Why it is broken."""

    sha256: str = ""
    """Of a single file's bytes."""

    @property
    def file(self) -> Path | None:
        """The file of an un-packaged plugin."""
        return Path(self.module) if self.distribution == FILE else None

    @property
    def provider(self) -> str:
        """For messages: "genmem-blur 0.1", "file mine.py"."""
        if self.file is not None:
            return f"file {self.file.name}"
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.provider})"


@attrs.frozen(kw_only=True)
class Component:
    """Something a recipe can name."""

    kind: str
    name: str
    config: type[Any]
    """Its config class."""

    plugin: Plugin
    description: str
    """First line of the config's docstring."""


@attrs.frozen(kw_only=True)
class Command:
    """A command that a plugin adds to the command line."""

    name: str
    command: click.Command
    plugin: Plugin


@attrs.frozen(kw_only=True)
class Loaded:
    """A plugin after loading, with what it offers; a plugin that is not active offers nothing."""

    plugin: Plugin
    components: tuple[Component, ...] = ()
    commands: tuple[Command, ...] = ()
