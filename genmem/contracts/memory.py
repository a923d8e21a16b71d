"""The MemoryStore seat: rows outside the network. A GMem bank, a Repulsor queue.

A store declares abilities; `genmem check` compares them with what a recipe asks of it:

condition   `fetch`, `read`, `encode`, `choose`, `rows`: rows that condition a network
attend      `attend`: log-sum-exp over all rows, differentiable in the query
nearest     `nearest`: the closest rows
write       `stage`, `commit`: rows that training adds
"""

# ruff: noqa: B027 - a store that is not written to has nothing to commit, discard or load.
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import attrs

from genmem.contracts.facts import Facts

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from genmem.contracts.data import Batch, DatasetFolder
    from genmem.draws import Draws

Ability = Literal["condition", "attend", "nearest", "write"]


class Attended(NamedTuple):
    """What `MemoryStore.attend` returns."""

    lse_B: Tensor
    """log Σ_j exp(scale · q·k_j) over the rows that count, fp32; 0 where none does."""

    count_B: Tensor
    """Rows that counted, fp32."""


class MemoryStore(ABC):
    """Rows of width E. A store is not an `nn.Module` unless it trains.

    A subclass overrides what it declares able; the rest raises `NotImplementedError`.
    """

    abilities: ClassVar[frozenset[Ability]] = frozenset()

    @property
    @abstractmethod
    def width(self) -> int:
        """E."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows it holds, or has room for."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Keep what is read every step on this device."""

    # condition -----------------------------------------------------------------------------

    def fetch(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray | None:
        """The stored form of the samples' own rows, for `read`; called in data workers.

        NumPy only: a file is opened once in each process. `index_B` are sample numbers in
        manifest order, `view_B` 0 (plain) or 1 (mirrored). None: nothing to fetch.
        """
        return None

    def read(self, batch: Batch, fetched: Tensor | None, draws: Draws | None) -> Tensor:
        """(B, K, E) for these training samples; `draws` (training only) feeds the masking."""
        raise self._unable("condition")

    def encode(self, batch: Batch) -> Tensor:
        """(B, K, E) for samples that are not in the store, from their features (eq. 10)."""
        raise self._unable("condition")

    def choose(self, draws: Draws, label_B: Tensor | None, noise: Tensor) -> Tensor:
        """Row numbers (B,) int64 to generate from, one for each of `draws.index_B`."""
        raise self._unable("condition")

    def rows(self, number_B: Tensor) -> Tensor:
        """(B, K, E): the rows of these numbers.

        Raises:
            IndexError: A number that is not a row.
        """
        raise self._unable("condition")

    def samples_of(self, number_B: Tensor) -> Tensor:
        """(B,) int64: the training sample each row came from."""
        raise self._unable("condition")

    # attend, nearest -----------------------------------------------------------------------

    def attend(self, q_BE: Tensor, scale: float, ids_B: Tensor | None = None) -> Attended:
        """log-sum-exp of scale · q·k over every valid row but those of the query's own id.

        Differentiable in `q_BE`; one pass over the rows; no (B, rows) tensor exists.
        """
        raise self._unable("attend")

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and numbers (B, k) of the k closest rows."""
        raise self._unable("nearest")

    # write ---------------------------------------------------------------------------------

    def stage(self, rows_BE: Tensor, ids_B: Tensor) -> None:
        """Set rows aside in the forward; nothing changes until `commit`."""
        raise self._unable("write")

    def commit(self, keep: Tensor) -> None:
        """Write what was staged, if `keep` (bool, 0-dim, on the device), else forget it.

        Called once in each optimizer step, on every rank; no host synchronisation.
        """

    def discard(self) -> None:
        """Forget what was staged."""

    # state ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """What training changed, free of world size and layout; empty for a frozen store."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state, of another capacity too.

        Raises:
            ValueError: A state of another width.
        """

    def fingerprint(self) -> dict[str, Any]:
        """What identifies a frozen store (JSON); a run refuses another. Empty otherwise."""
        return {}

    def num_bytes(self) -> int:
        """Bytes the rows occupy."""
        return 0

    def metrics(self) -> dict[str, Tensor]:
        """Small numbers worth a line in the log."""
        return {}

    def _unable(self, ability: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no ability {ability!r}")


@attrs.frozen(kw_only=True)
class MemoryConfig(ABC):
    """Settings of a memory store."""

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    """What the store can do; the same as the class it builds declares."""

    @property
    def features(self) -> frozenset[str]:
        """Per-sample features it needs in the shards."""
        return frozenset()

    def prepare(self, dataset: DatasetFolder) -> None:
        """Make the files it needs, if they are missing. Called on one process."""

    @abstractmethod
    def build(self, facts: Facts) -> MemoryStore:
        """The store.

        Raises:
            FileNotFoundError, ValueError: Files that are missing or do not fit.
        """
