"""What a run says: a line of metrics.jsonl, a line on the terminal, a call of every notifier."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli
from rich.console import Console

from genmem import collectives
from genmem.contracts import Ending, Notifier, RunStart
from genmem.recipe import dump
from genmem.recipe.tables import Recipe
from genmem.training.folder import RunFolder
from genmem.training.records import finite


def built(recipe: Recipe) -> dict[str, Notifier]:
    """Every `[notify.NAME]`, on the first process; none elsewhere.

    Raises:
        ValueError: What a notifier needs is not there; the message has its name.
    """
    notifiers = {}
    for name, seat in recipe.notify.items() if collectives.rank() == 0 else ():
        try:
            notifiers[name] = seat.config.build()
        except Exception as error:
            raise ValueError(f"notify.{name} ({seat.use}): {error}") from error
    return notifiers


class Journal:
    """Writes and tells on the first process; on the others it does nothing."""

    def __init__(self, folder: RunFolder, console: Console, notifiers: Mapping[str, Notifier]) -> None:
        """A journal of the run in this folder; `notifiers` by their names in the recipe."""
        self.folder, self.console = folder, console
        self.images_seen = 0
        """Of the latest event; what is said between two steps is dated with it."""

        self._notifiers = dict(notifiers)
        self._speaks = collectives.rank() == 0

    def start(self, recipe: Recipe, images_seen: int) -> None:
        """The run is about to take its first step after so many images."""
        self.images_seen = images_seen
        start = RunStart(
            name=recipe.name,
            folder=self.folder.path,
            images=recipe.train.images,
            images_seen=images_seen,
            recipe=tomli.loads(dump(recipe)),
        )
        self._tell(lambda notifier: notifier.start(start))

    def say(self, message: str, images_seen: int | None = None) -> None:
        """A line on the terminal alone."""
        seen = self.images_seen if images_seen is None else images_seen
        if self._speaks:
            self.console.print(f"{seen:>10,} images  {message}", highlight=False, markup=False)

    def line(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Means since the last line, rates and counts; those that are not finite are left out."""
        values = finite(values)
        self._write(images_seen, values)
        self._tell(lambda notifier: notifier.line(images_seen, values))

    def scores(self, images_seen: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Scores, and the pictures that go with them; one that is not finite is on the terminal alone."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        values = finite(values)
        self._write(images_seen, values)
        self.say(shown)
        self._tell(lambda notifier: notifier.scores(images_seen, values, pictures))

    def checkpoint(self, images_seen: int, folder: Path) -> None:
        """A checkpoint is complete."""
        self._tell(lambda notifier: notifier.checkpoint(images_seen, folder))

    def warn(self, message: str, images_seen: int | None = None) -> None:
        """Something that a person should look at."""
        seen = self.images_seen if images_seen is None else images_seen
        self._write(seen, {"warning": message})
        self.say(message)
        self._tell(lambda notifier: notifier.warning(seen, message))

    def go_back(self, images_seen: int, to: int) -> None:
        """After so many images the run has rolled back to fewer."""
        self.images_seen = to
        self._tell(lambda notifier: notifier.went_back(images_seen, to))

    def end(self, images_seen: int, ending: Ending, message: str = "") -> None:
        """The run is over, for now or for good. Notifiers hear nothing after it."""
        self._tell(lambda notifier: notifier.end(images_seen, ending, message))
        self._notifiers = {}

    def _write(self, images_seen: int, values: Mapping[str, Any]) -> None:
        self.images_seen = images_seen
        if self._speaks:
            self.folder.log({"images": images_seen, **values, "time": time.time()})

    def _tell(self, call: Callable[[Notifier], None]) -> None:
        """Call every notifier; one that raises is switched off, which is said once."""
        for name, notifier in list(self._notifiers.items()):
            if name not in self._notifiers:  # it failed while another's failure was told
                continue
            try:
                call(notifier)
            except Exception as error:
                del self._notifiers[name]
                what = f"{type(error).__name__}: {error}"
                self.warn(f"notify.{name} failed and is switched off ({what}); the run goes on")
