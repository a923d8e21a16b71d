"""A terminal whose reader may go away."""

from __future__ import annotations

import os

from rich.console import Console


class Terminal(Console):
    """rich's console. When what reads it has ended (`| head`), it is silent: that is no error."""

    def __init__(self, *, stderr: bool = False) -> None:
        """Somebody reads it."""
        super().__init__(stderr=stderr)
        self.deserted = False
        """Whether what read it has ended."""

    def on_broken_pipe(self) -> None:
        """Send what is left, and all that follows, nowhere."""
        self.deserted = self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
