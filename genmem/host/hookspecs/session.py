"""Around a run: who is told of it, and commands of the command line."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from genmem.contracts import NotifierConfig

hookspec = pluggy.HookspecMarker("genmem")


@hookspec
def genmem_notifiers() -> Mapping[str, type[NotifierConfig]]:
    """Who is told what a run does, for `[notify.NAME]`.

    Example:
        from genmem.contracts import Notifier, NotifierConfig
        class Lines(Notifier):
            def __init__(self, file):
                self.file = file
            def warning(self, images_seen, message):
                with open(self.file, "a") as file:
                    print(images_seen, message, file=file)
        @attrs.frozen(kw_only=True)
        class LinesConfig(NotifierConfig):
            "Warnings, in a text file."
            file: str
            def build(self):
                return Lines(self.file)
        @hookimpl
        def genmem_notifiers():
            return {"lines": LinesConfig}
    """


@hookspec
def genmem_commands() -> Mapping[str, click.Command]:
    """Commands of the command line: `genmem NAME …`.

    Example:
        import click
        @click.command()
        @click.argument("run")
        def gallery(run: str) -> None:
            "Write a page with the pictures of a run."
            from genmem_gallery.page import write
            write(run)
        @hookimpl
        def genmem_commands():
            return {"gallery": gallery}
    """
