"""The Notifier seat: who is told what a run does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

Ending = Literal["finished", "stopped", "failed"]
"""All images seen; asked to stop, and saved; or ended by an error."""


@attrs.frozen(kw_only=True)
class RunStart:
    """A run as it begins, or goes on."""

    name: str
    folder: Path
    """The run's folder: whatever a notifier writes belongs into a folder of its own in there."""

    images: int
    """Images to see in all."""

    images_seen: int
    """Where it goes on from, 0 where it begins. What was told of later steps is void."""

    recipe: Mapping[str, Any]
    """The resolved recipe, as in recipe.toml."""


class Notifier:
    """Told what a run does, on its first process, between two steps.

    A method that is not overridden does nothing. Training waits for each call. One that raises is the
    last: the error is said once, the notifier is switched off, and the run goes on.
    """

    def start(self, run: RunStart) -> None:
        """The run is about to take its first step."""

    def line(self, images_seen: int, values: Mapping[str, float]) -> None:
        """What a line of metrics.jsonl says: means since the last one, rates, counts."""

    def scores(self, images_seen: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Scores, and the picture files that were written with them, by name."""

    def checkpoint(self, images_seen: int, folder: Path) -> None:
        """A checkpoint is complete in this folder."""

    def warning(self, images_seen: int, message: str) -> None:
        """Something that a person should look at; the run goes on."""

    def went_back(self, images_seen: int, to: int) -> None:
        """After so many images the run has rolled back to fewer. What was told of later ones than `to` is
        void; the same numbers of images will be told of again, by other steps."""

    def end(self, images_seen: int, ending: Ending, message: str) -> None:
        """The last call. `message` says what was raised, and is empty elsewhere."""


@attrs.frozen(kw_only=True)
class NotifierConfig(ABC):
    """Settings of a notifier."""

    @abstractmethod
    def build(self) -> Notifier:
        """The notifier. What it needs and does not find it refuses here: no run has begun yet.

        Raises:
            ValueError: A library that is not installed, an account that is not there.
        """
