"""Slots in a ring, on the device: all of them, or this process's share.

Row number n, counted from the first ever written, lies in slot n mod R. Shared out over W
processes, slot s lies with process s mod W in place s // W, so a row's whereabouts follow from its
number alone. One place more than there are slots takes what is not to be kept: a write has the
same shape whatever the flags on the device say, and the host waits for nothing.
Shapes: R slots, S places of this process, E width, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from genmem.collectives import gather, rank, world_size

EMPTY = -1
"""Sample number of a slot that holds no negative."""

Columns = dict[str, Tensor]
"""rows (N, E), ids (N,) int64, label (N,) int32 with -1 for none, t (N,) fp32 with NaN for none."""


class Ring:
    """R slots of rows and what is known of them."""

    def __init__(self, slots: int, width: int, dtype: torch.dtype, shared: bool) -> None:
        """Empty; what rows hold then is anything."""
        self.slots = slots
        self.world, self.rank = (world_size(), rank()) if shared else (1, 0)
        self.places = len(range(self.rank, slots, self.world))
        self._columns: Columns = {
            "rows": torch.empty(self.places + 1, width, dtype=dtype),
            "ids": torch.full((self.places + 1,), EMPTY),
            "label": torch.full((self.places + 1,), -1, dtype=torch.int32),
            "t": torch.full((self.places + 1,), torch.nan),
        }

    def __getitem__(self, name: str) -> Tensor:
        """A column of this process, in the order of its slots."""
        return self._columns[name][: self.places]

    def to(self, device: torch.device) -> None:
        """Move everything."""
        self._columns = {name: column.to(device) for name, column in self._columns.items()}

    def none(self) -> Columns:
        """No rows, in the columns' types."""
        return {name: column[:0] for name, column in self._columns.items()}

    def slot_numbers(self) -> Tensor:
        """(S,) the slots of this process."""
        device = self._columns["ids"].device
        return torch.arange(self.rank, self.slots, self.world, device=device)

    def empty(self) -> None:
        """Forget which samples rows came from, so that none is a negative."""
        self._columns["ids"].fill_(EMPTY)

    @torch.no_grad()
    def put(self, rows: Mapping[str, Tensor], number_N: Tensor, wanted_N: Tensor) -> None:
        """Write the rows that are wanted to the slots of their numbers, which all differ."""
        slot_N = number_N % self.slots
        place_N = torch.where(
            wanted_N & (slot_N % self.world == self.rank), slot_N // self.world, self.places
        )
        for name, column in self._columns.items():
            column[place_N] = rows[name].to(column)

    def whole(self) -> Columns:
        """All processes' columns, (R, …) in the order of the slots. Collective where shared out."""
        if self.world == 1:
            return {name: self[name] for name in self._columns}
        most = -(-self.slots // self.world)
        return {name: self._interleave(column, most) for name, column in self._columns.items()}

    def _interleave(self, column: Tensor, most: int) -> Tensor:
        # The spare place stands in where a process has one slot fewer than another.
        parts = gather(column[:most]).view(self.world, most, *column.shape[1:])
        return parts.transpose(0, 1).flatten(0, 1)[: self.slots]

    def num_bytes(self) -> int:
        """Bytes of this process's columns."""
        return sum(self[name].nbytes for name in self._columns)
