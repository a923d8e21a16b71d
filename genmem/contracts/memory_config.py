"""Settings of a memory store, and what a store will be before it is built."""

# ruff: noqa: B027 - a store without files has nothing to prepare.
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import attrs

from genmem.contracts.facts import Facts
from genmem.contracts.memory import Ability, MemoryStore

if TYPE_CHECKING:
    from genmem.contracts.data import DatasetFolder


class Extent(NamedTuple):
    """What a store will be: enough to build and count all the others without it."""

    width: int
    """E of its rows."""

    rows: int
    """Rows it will hold, or have room for."""

    num_bytes: int
    """Bytes the rows occupy, wherever they lie."""

    device_bytes: int
    """Those of them that one process keeps on the device."""


@attrs.frozen(kw_only=True)
class MemoryConfig(ABC):
    """Settings of a memory store."""

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    """What the store can do; the same as the class it builds declares."""

    places: ClassVar[frozenset[str]] = frozenset()
    """Settings that only say where the store's files lie. They may differ when a run goes on, since
    `MemoryStore.fingerprint` tells what lies there."""

    @property
    def features(self) -> frozenset[str]:
        """Per-sample features it needs in the shards."""
        return frozenset()

    def prepare(self, dataset: DatasetFolder) -> None:
        """Make the files it needs, if they are missing. Called on one process."""

    def extent(self, facts: Facts, world: int = 1) -> Extent | None:
        """What it will be for these facts on so many processes, unbuilt and without torch.

        None where only the built store knows.
        """
        return None

    @abstractmethod
    def build(self, facts: Facts) -> MemoryStore:
        """The store.

        Raises:
            FileNotFoundError, ValueError: Files that are missing or do not fit.
        """
