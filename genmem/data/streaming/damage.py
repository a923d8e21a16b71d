"""Damaged samples that a run is to skip: each is replaced by another, chosen by the data alone.

Which sample stands in for sample n in epoch e is drawn from (seed, n, e): eight tries in n's own
shard, then eight in each of seven others, until one is not damaged. So the stream stays a pure
function of the step and of what is damaged, whatever ranks, workers and restarts.

Shapes: B samples of a batch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from genmem.data.errors import DamagedSample, DamagedShard, DataError
from genmem.data.format.fields import SAMPLE
from genmem.data.streaming.shards import ShardSet
from genmem.draws import Draws

TRIES = 8
_AT_ONCE = 1000

Toss = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Views (B,) of samples (B,) in their epochs (B,)."""


class Damages:
    """What was found damaged in a split, and what stands in for it. Threads may use it at once."""

    def __init__(self, shards: ShardSet, toss: Toss, *, seed: int, most: int) -> None:
        """Begin with the shards that are known to be unreadable.

        Args:
            shards: The split.
            toss: Which view a sample has in an epoch.
            seed: Of the run.
            most: Samples that may be damaged.

        Raises:
            DataError: There are more.
        """
        self._shards, self._toss, self._seed, self._most = shards, toss, seed, most
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._written: set[str] = set()
        self.problems: dict[str, int] = {}
        """What was found, and how many samples each concerns."""
        self.samples: frozenset[int] = frozenset()
        """Numbers of the samples concerned."""
        self._shards_gone: frozenset[int] = frozenset()
        self._views_gone: frozenset[tuple[int, int]] = frozenset()
        for error in shards.unreadable:
            self.note(error)

    def write_to(self, file: Path) -> None:
        """Append a JSON line to `file` for each problem, those known already included."""
        self._file, self._written = file, set(read_problems(file))
        for problem, count in self.problems.items():
            self._append(problem, count)

    def note(self, error: DamagedSample | DamagedShard) -> None:
        """Remember damage.

        Raises:
            DataError: With it, more samples are damaged than may be.
        """
        with self._lock:
            if isinstance(error, DamagedShard):
                if error.shard in self._shards_gone:
                    return
                self._shards_gone |= {error.shard}
                concerned = frozenset(self._shards.span(error.shard))
            else:
                if (error.number, error.view) in self._views_gone:
                    return
                self._views_gone |= {(error.number, error.view)}
                concerned = frozenset({error.number})
            self.samples |= concerned
            self.problems[str(error)] = len(concerned)
            self._append(str(error), len(concerned))
        if len(self.samples) > self._most:
            raise DataError(
                f"{error}; {len(self.samples)} samples are damaged so far, data.max_skipped = {self._most}; "
                "restore the shards, or allow more"
            ) from error

    def replace(
        self, number_B: np.ndarray, epoch_B: np.ndarray, view_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and views (B,) to read instead: the same, but for samples known to be damaged.

        Raises:
            DataError: None of the samples tried for one is sound.
        """
        if not self.samples:
            return number_B, view_B
        number_B, view_B = number_B.copy(), view_B.copy()
        for row in np.flatnonzero(np.isin(number_B, list(self.samples))).tolist():
            number_B[row], view_B[row] = self._stand_in(
                int(number_B[row]), int(epoch_B[row]), int(view_B[row])
            )
        return number_B, view_B

    def _stand_in(self, number: int, epoch: int, view: int) -> tuple[int, int]:
        if self._is_sound(number, view):
            return number, view
        epoch_1 = np.array([epoch])
        for candidate in self._draw(number, epoch):
            view = int(self._toss(np.array([candidate]), epoch_1)[0])
            if self._is_sound(candidate, view):
                return candidate, view
        raise DataError(
            f"{list(self.problems)[-1]}; none of {TRIES * TRIES} samples tried in its place is sound"
        )

    def _draw(self, number: int, epoch: int) -> list[int]:
        home = int(self._shards.shard_of(np.array([number]))[0])
        # The shards that stand in for a shard are the same for all its samples.
        others = self._words(home, epoch, "damage/shard", TRIES - 1)
        count = len(self._shards.counts)
        spans = [self._shards.span(shard) for shard in (home, *((w * count) >> 32 for w in others))]
        words = self._words(number, epoch, "damage/sample", TRIES * TRIES)
        pairs = zip((span for span in spans for _ in range(TRIES)), words, strict=True)
        return [span[(word * len(span)) >> 32] for span, word in pairs if span]

    def _words(self, index: int, epoch: int, purpose: str, count: int) -> list[int]:
        words: list[int] = (
            Draws(self._seed, torch.tensor([index]), torch.tensor([epoch])).words(purpose, count)[0].tolist()
        )
        return words

    def _is_sound(self, number: int, view: int) -> bool:
        if (number, view) in self._views_gone:
            return False
        return int(self._shards.shard_of(np.array([number]))[0]) not in self._shards_gone

    def _append(self, problem: str, count: int) -> None:
        if self._file is not None and problem not in self._written:
            self._written.add(problem)
            with self._file.open("a") as file:
                file.write(json.dumps({"problem": problem, "samples": count}) + "\n")


def find_sound(shards: ShardSet) -> np.ndarray:
    """(N,) int64: numbers of the samples whose plain view can be read. Reads them all."""
    number_N, start = np.arange(len(shards)), 0
    while start < len(number_N):
        try:
            shards.read(SAMPLE, number_N[start : start + _AT_ONCE])
            start += _AT_ONCE
        except DamagedShard as error:
            number_N = number_N[~np.isin(number_N, shards.span(error.shard))]
        except DamagedSample as error:
            number_N = number_N[number_N != error.number]
    return number_N


def read_problems(file: Path) -> dict[str, int]:
    """What a file written by `Damages` tells: every problem once, with the samples it concerns."""
    lines = file.read_text().splitlines() if file.exists() else []
    # A kill may have cut the last line short.
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return {record["problem"]: record["samples"] for record in records}
