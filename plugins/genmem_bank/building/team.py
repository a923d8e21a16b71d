"""The processes that build one bank together; one alone, unless it says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch

from genmem import collectives

T = TypeVar("T")


class Team(NamedTuple):
    """This process's place among them."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_group(cls) -> Team:
        """Every process of the process group, if there is one."""
        return cls(collectives.rank(), collectives.world_size())

    @property
    def first(self) -> bool:
        """Whether this one does what is done once."""
        return self.rank == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """The consecutive pieces that are this process's."""
        return work[len(work) * self.rank // self.world : len(work) * (self.rank + 1) // self.world]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Leave together; where one fails over its data, all do.

        Raises:
            ValueError: This process's, or one that says that another process failed.
        """
        failure: ValueError | None = None
        try:
            yield
        except ValueError as error:
            failure = error
        failed = failure is not None
        if self.world > 1:
            failed = bool(collectives.any_rank(torch.tensor(failed)))
        if failed:
            raise failure or ValueError("another process failed; its message says over what")
