"""The MemoryStore seat: rows outside the network. A GMem bank, a Repulsor queue.

A store declares abilities; `genmem check` compares them with what a recipe asks of it:

condition   `fetch`, `read`, `choose`, `codes`, `code`, `decode`, `mix`: rows that condition a network;
            `maps`, `translate`: rows of other encoders' pictures and of text, where maps were made
attend      `attend`: log-sum-exp over all rows, differentiable in the query
nearest     `nearest`: the closest rows
write       `stage`, `commit`: rows that training adds
labels      rows know their class, so that `attend` can hide by it
times       rows know the time they were written at, so that `attend` can hide by it
"""

# ruff: noqa: B027 - a store that is not written to has nothing to commit, discard or load.
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from genmem.contracts.data import Batch, Reads
    from genmem.draws import Draws

Ability = Literal["condition", "attend", "nearest", "write", "labels", "times"]

Metric = Literal["dot", "l2"]
"""Between a query and a row: q·k, or -‖q - k‖²."""


class Tags(NamedTuple):
    """What is known of samples whose rows are written."""

    ids_B: Tensor
    """int64 sample numbers."""

    label_B: Tensor | None = None
    """int64 classes, -1 where there is none: the data's own, whatever was dropped for guidance."""

    t_B: Tensor | None = None
    """fp32 times of the noisy samples."""


class Hide(NamedTuple):
    """Rows that do not count for a query. A part that is None hides nothing."""

    ids_B: Tensor | None = None
    """int64: rows of the query's own sample."""

    label_B: Tensor | None = None
    """int64: rows of the query's class; -1 shares it with none."""

    t_B: Tensor | None = None
    """fp32: rows whose time lies `window` or more from the query's."""

    window: float = math.inf


class Attended(NamedTuple):
    """What `MemoryStore.attend` returns."""

    lse_B: Tensor
    """log Σ_j exp(scale · s(q, k_j)) over the rows that count, fp32; 0 where none does."""

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
        return self.decode(self.code(batch))

    def choose(self, draws: Draws, label_B: Tensor | None, noise: Tensor) -> Tensor:
        """Row numbers (B,) int64 to generate from, one for each of `draws.index_B`."""
        raise self._unable("condition")

    def rows(self, number_B: Tensor) -> Tensor:
        """(B, K, E): the rows of these numbers.

        Raises:
            IndexError: A number that is not a row.
        """
        return self.decode(self.codes(number_B))

    def codes(self, number_B: Tensor) -> Tensor:
        """(B, …): the stored form of the rows of these numbers, on the device. Raises as `rows`."""
        raise self._unable("condition")

    def code(self, batch: Batch) -> Tensor:
        """(B, …): the stored form that samples outside the store would have, from their features."""
        raise self._unable("condition")

    def decode(self, codes: Tensor) -> Tensor:
        """(B, K, E): rows from their stored form (eq. 9)."""
        raise self._unable("condition")

    def mix(self, first: Tensor, second: Tensor, share_B: Tensor, spherical: bool = False) -> Tensor:
        """Stored forms between: share · first + (1 - share) · second (eq. 11), or shares of the angle."""
        raise self._unable("condition")

    def maps(self) -> Mapping[str, Reads]:
        """{name: what it reads}: the maps to rows that are kept with the store, oldest first."""
        return {}

    def translate(self, name: str, given: np.ndarray) -> Tensor:
        """(B, …): the stored form of pictures (B, H, W, C) or texts (B,), through the map of this name.

        Raises:
            ValueError: No such map; or what its encoder refuses.
        """
        raise self._unable("condition")

    def samples_of(self, number_B: Tensor) -> Tensor:
        """(B,) int64: the training sample each row came from; -1 where it came from none."""
        raise self._unable("condition")

    def labels_of(self, number_B: Tensor) -> Tensor:
        """(B,) int64: the class of each row's sample; -1 where the store does not know it."""
        import torch

        return torch.full_like(number_B, -1)

    # attend, nearest -----------------------------------------------------------------------

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """log-sum-exp of scale · s(q, k) over every valid row that is not hidden from the query.

        Differentiable in `q_BE`; one pass over the rows; no (B, rows) tensor exists. Where the
        ranks hold different rows it is collective: every rank calls it with equally many queries.

        Raises:
            ValueError: To hide by classes or times that the rows do not know.
        """
        raise self._unable("attend")

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and numbers (B, k) of the k closest rows."""
        raise self._unable("nearest")

    # write ---------------------------------------------------------------------------------

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
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
        """What training changed, free of world size and layout; empty for a frozen store.

        Collective: every rank calls it.
        """
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state, of another capacity too.

        Raises:
            ValueError: A state of another width.
        """

    def fingerprint(self) -> dict[str, Any]:
        """What identifies a frozen store (JSON); a run refuses another. Empty otherwise.

        Added rows leave it the same. "encoder": what made the rows; a run never takes another's.
        """
        return {}

    def describe(self) -> dict[str, Any]:
        """What a score must say of it beside that (JSON); "data": the fingerprint of its rows' set."""
        return {}

    def spectrum(self) -> tuple[float, ...]:
        """Singular values of its rows about their mean, largest first; empty where it has none to tell."""
        return ()

    def num_bytes(self) -> int:
        """Bytes the rows occupy."""
        return 0

    def metrics(self) -> dict[str, Tensor]:
        """Small numbers worth a line in the log."""
        return {}

    def _unable(self, ability: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no ability {ability!r}")
