"""Writes a run's events through torch's SummaryWriter. A step of TensorBoard is a number of images seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genmem.contracts import Ending, Notifier, RunStart
from genmem.extras import import_extra

FLUSH_S = 30
"""Seconds that an event waits at most before it is in the file."""


class Events(Notifier):
    """Scalars, pictures and texts, in one folder of the run's."""

    def __init__(self, folder: str) -> None:
        """Find the library; nothing is written yet.

        Raises:
            MissingExtra: TensorBoard is not installed.
        """
        import_extra("tensorboard", "tensorboard")
        self._folder = folder
        self._writer: Any = None

    def start(self, run: RunStart) -> None:
        """Open a file; what a killed run wrote of later steps is hidden."""
        self._open(run.folder / self._folder, run.images_seen)
        self._text("recipe", json.dumps(run.recipe, indent=1), run.images_seen)

    def line(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Every value as a scalar."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, images_seen)

    def scores(self, images_seen: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Scores as scalars, pictures as pictures."""
        self.line(images_seen, values)
        for name, file in pictures.items():
            shown = np.asarray(Image.open(file).convert("RGB"))
            self._writer.add_image(name, shown, images_seen, dataformats="HWC")
        self._writer.flush()

    def checkpoint(self, images_seen: int, folder: Path) -> None:
        """Its folder, as a text."""
        self._text("checkpoint", str(folder), images_seen)

    def warning(self, images_seen: int, message: str) -> None:
        """A text."""
        self._text("warning", message, images_seen)

    def went_back(self, images_seen: int, to: int) -> None:
        """A further file; what was written of later steps is hidden."""
        self._writer.close()
        self._open(self._writer.log_dir, to)

    def end(self, images_seen: int, ending: Ending, message: str) -> None:
        """How it ended, as a text; then the file is closed."""
        self._text("ending", f"{ending} {message}".strip(), images_seen)
        self._writer.close()

    def _open(self, folder: Path | str, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter  # its functions carry no types
        self._writer = writer(folder, purge_step=images_seen + 1, flush_secs=FLUSH_S)

    def _text(self, name: str, text: str, images_seen: int) -> None:
        """Four spaces keep TensorBoard from reading it as Markdown."""
        lines = "\n".join(f"    {line}" for line in text.splitlines())
        self._writer.add_text(name, lines, images_seen)
