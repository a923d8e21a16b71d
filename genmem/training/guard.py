"""Watches for steps that had to be skipped, one step late, so that the device never waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

from genmem import collectives
from genmem.draws import key_of
from genmem.recipe.tables import GuardTable
from genmem.training.flag import Flag

_SHOWN = 8


class Diverged(ArithmeticError):
    """Loss or gradient were not finite, again and again, after every roll-back the recipe allows."""


class Guard:
    """Counts skipped steps, names the samples in them, and says when there were too many in a row."""

    def __init__(
        self,
        report: Callable[[str, int], None],
        table: GuardTable | None = None,
        note: Callable[[Mapping[str, Any]], None] = lambda record: None,
        patience: float | None = None,
    ) -> None:
        """Nothing was skipped yet.

        Args:
            report: Takes a line for the user, and the images seen by then.
            table: The recipe's; its defaults if absent.
            note: Takes images seen and all sample numbers of a skipped step, as JSON.
            patience: Seconds to wait for the other processes; for ever if absent.
        """
        self.table = table or GuardTable()
        self.skipped = 0
        self.in_a_row = 0
        self.rollbacks = 0
        self.history: list[dict[str, Any]] = []
        """A record of each roll-back."""

        self.streak: list[dict[str, Any]] = []
        """The steps skipped in a row until now: images seen, and the samples."""

        self._report, self._note, self._patience = report, note, patience
        self._pending: tuple[int, Flag, Tensor] | None = None

    @property
    def spent(self) -> bool:
        """Whether so many steps in a row were skipped that the run has to roll back."""
        return self.in_a_row >= self.table.skips

    def watch(self, images_seen: int, kept: Tensor, index_B: Tensor) -> None:
        """Read the previous step's flag; hold this one's until the next call."""
        held = Flag(kept)
        self.settle()
        self._pending = (images_seen, held, index_B)

    def settle(self) -> None:
        """Read the flag that is held. Collective where the step was skipped.

        Raises:
            DistError: Another process did not come to the end of that step.
        """
        if self._pending is None:
            return
        images_seen, held, index_B = self._pending
        self._pending = None
        if held.read(self._patience):
            self.in_a_row, self.streak = 0, []
            return
        self.skipped += 1
        self.in_a_row += 1
        numbers = collectives.gather(index_B).tolist()
        record = {"images": images_seen, "samples": numbers}
        self.streak.append(record)
        self._note(record)
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
        line = f"step skipped at {images_seen:,} images: loss or gradient not finite (samples {shown})"
        self._report(line, images_seen)

    def roll_back(self, images_seen: int, to: int) -> None:
        """Note that the run went back from so many images to so many; the flag held is forgotten."""
        self.history.append({"images": images_seen, "to": to, "skipped": self.streak})
        self.rollbacks += 1
        self.in_a_row, self.streak, self._pending = 0, [], None

    def data_seed(self, seed: int) -> int:
        """The seed of data and draws: the recipe's, another after each roll-back."""
        if self.rollbacks == 0:
            return seed
        low, high = key_of(seed, f"roll-back/{self.rollbacks}")
        return high << 32 | low

    def state(self) -> dict[str, Any]:
        """For a checkpoint, as JSON; `settle` first."""
        names = ("skipped", "in_a_row", "rollbacks", "history", "streak")
        return {name: deepcopy(getattr(self, name)) for name in names}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        for name, value in state.items():
            setattr(self, name, deepcopy(value))
        self._pending = None
