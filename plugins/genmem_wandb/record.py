"""Writes a run through the wandb library; its x axis is the number of images seen."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmem.contracts import Ending, Notifier, RunStart
from genmem.extras import import_extra

if TYPE_CHECKING:
    from genmem_wandb import WandbConfig

FOLDER = "wandb"
"""In the run's folder; the name is the library's."""

IMAGES = "images"
"""The axis that everything is drawn over."""


WENT_BACK = "went_back_from"
"""Images seen when the run rolled back to those of the row; rows before it up to there are void."""


class Record(Notifier):
    """One run there for one run folder here, however often it was stopped."""

    def __init__(self, config: WandbConfig) -> None:
        """Find the library, and an account where one is needed; nothing is written yet.

        Raises:
            MissingExtra: wandb is not installed.
            ValueError: `mode = "online"` on a machine that is not logged in.
        """
        self._config = config
        self._wandb: Any = import_extra("wandb", "wandb")
        if config.mode == "online" and not self._wandb.login(prompt=False):
            raise ValueError('mode = "online", but nobody is logged in: run wandb login, or say "offline"')
        self._run: Any = None

    def start(self, run: RunStart) -> None:
        """Open the run, or go on with it under the number it had."""
        settings = self._wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
        (run.folder / FOLDER).mkdir(exist_ok=True)
        self._run = self._wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            group=self._config.group,
            tags=self._config.tags,
            mode=self._config.mode,
            name=run.name,
            id=_number(run.folder / FOLDER / "id"),
            resume="allow" if self._config.mode == "online" else None,
            dir=run.folder,
            config=dict(run.recipe),
            settings=settings,
        )
        self._run.define_metric("*", step_metric=IMAGES)

    def line(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Every value."""
        self._run.log({IMAGES: images_seen, **values})

    def scores(self, images_seen: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Every score, and the pictures."""
        shown = {name: self._wandb.Image(str(file)) for name, file in pictures.items()}
        self._run.log({IMAGES: images_seen, **values, **shown})

    def checkpoint(self, images_seen: int, folder: Path) -> None:
        """Its folder, in the summary."""
        self._run.summary["checkpoint"] = str(folder)

    def warning(self, images_seen: int, message: str) -> None:
        """An alert."""
        self._run.alert(title=f"{images_seen:,} images", text=message)

    def went_back(self, images_seen: int, to: int) -> None:
        """A row that says so: rows that are there cannot be taken back."""
        self._run.log({IMAGES: to, WENT_BACK: images_seen})

    def end(self, images_seen: int, ending: Ending, message: str) -> None:
        """How it ended, in the summary; a failed run is marked as one."""
        self._run.summary["ending"] = f"{ending} {message}".strip()
        self._run.finish(exit_code=int(ending == "failed"))


def _number(file: Path) -> str:
    """What identifies the run there, drawn once for a run folder."""
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text()
