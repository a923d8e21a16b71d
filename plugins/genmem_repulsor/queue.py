"""A first-in-first-out queue of rows, in a ring on the device.

Row number n, counted from the first ever written, lies in slot n mod R. The count lives on the
device, so writing needs no host synchronisation; what a queue holds is the same on every rank.
Shapes: R slots, E width, N rows written at once, B queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genmem.attention import CHUNK_ROWS, Chunk, closest, log_sum_exp
from genmem.collectives import gather
from genmem.contracts import Ability, Attended, MemoryStore

EMPTY = -1
"""Sample number of a slot that holds no negative."""


class Queue(MemoryStore):
    """The newest rows that training wrote, with the number of the sample each came from."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write"})

    def __init__(self, rows: int, width: int, dtype: Literal["bf16", "fp32"] = "bf16") -> None:
        """An empty queue with room for `rows` rows of `width`."""
        self.rows_RE = torch.empty(rows, width, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
        self.ids_R = torch.full((rows,), EMPTY)
        self.total = torch.tensor(0)
        """Rows ever written; the next one's number."""

        self.first = torch.tensor(0)
        """Number of the oldest row it ever took: above 0 after a load into a larger queue."""

        self.rejected = torch.tensor(0)
        """Rows that were not finite and so are no negatives."""

        self._staged: list[tuple[Tensor, Tensor]] = []

    @property
    def width(self) -> int:
        """E."""
        return self.rows_RE.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows there is room for."""
        return self.rows_RE.shape[0]

    def to(self, device: torch.device) -> None:
        """Move the ring and its count."""
        self.rows_RE, self.ids_R = self.rows_RE.to(device), self.ids_R.to(device)
        self.total, self.first = self.total.to(device), self.first.to(device)
        self.rejected = self.rejected.to(device)

    # attend, nearest -----------------------------------------------------------------------

    def attend(self, q_BE: Tensor, scale: float, ids_B: Tensor | None = None) -> Attended:
        """log-sum-exp over the rows held, a query's own sample left out."""
        return log_sum_exp(q_BE, self._chunks(), scale, ids_B)

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and slots (B, k); -inf and -1 where fewer than k rows are held.

        Raises:
            ValueError: k above the room of the queue.
        """
        return closest(q_BE, self._chunks(), k)

    # write ---------------------------------------------------------------------------------

    def stage(self, rows_BE: Tensor, ids_B: Tensor) -> None:
        """Keep a copy of this micro-batch's rows, in order, until `commit`.

        Raises:
            ValueError: Rows of another width.
        """
        if rows_BE.shape != (len(ids_B), self.width):
            raise ValueError(
                f"rows of shape {tuple(rows_BE.shape)} for {len(ids_B)} samples do not fit a queue of "
                f"width {self.width}"
            )
        row_BE = rows_BE.detach().to(self.rows_RE.dtype, copy=True)
        self._staged.append((row_BE, ids_B.detach().clone()))

    @torch.no_grad()
    def commit(self, keep: Tensor) -> None:
        """Write what all ranks staged, in rank order, if `keep`; else forget it."""
        staged, self._staged = self._staged, []
        # A rank with nothing staged joins the collective all the same.
        row_NE = torch.cat([self.rows_RE[:0], *(rows for rows, _ in staged)])
        id_N = torch.cat([self.ids_R[:0], *(ids for _, ids in staged)])
        self._write(gather(row_NE), gather(id_N), keep)

    def discard(self) -> None:
        """Forget what was staged."""
        self._staged = []

    # state ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Rows and sample numbers, oldest first, and the counts."""
        slot_N = self._slots(min(int(self.total - self.first), self.num_rows))
        return {
            "rows": self.rows_RE[slot_N],
            "ids": self.ids_R[slot_N],
            "total": self.total.clone(),
            "rejected": self.rejected.clone(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up the newest rows there is room for; the rest of a larger queue stays empty.

        Raises:
            ValueError: Rows of another width.
        """
        row_NE, id_N = state["rows"][-self.num_rows :], state["ids"][-self.num_rows :]
        if row_NE.shape[1] != self.width:
            raise ValueError(
                f"the saved queue holds rows of width {row_NE.shape[1]}, this one takes width {self.width}; "
                "set the memory's width back, or start a new run"
            )
        self.discard()
        self.total, self.rejected = state["total"].to(self.total), state["rejected"].to(self.rejected)
        self.first = self.total - len(row_NE)
        slot_N = self._slots(len(row_NE))
        self.ids_R = torch.full_like(self.ids_R, EMPTY)
        self.ids_R[slot_N] = id_N.to(self.ids_R)
        self.rows_RE[slot_N] = row_NE.to(self.rows_RE)

    def num_bytes(self) -> int:
        """Rows and sample numbers."""
        return self.rows_RE.nbytes + self.ids_R.nbytes

    def metrics(self) -> dict[str, Tensor]:
        """Share of the room that holds negatives; rows rejected so far."""
        return {"filled": (self.ids_R != EMPTY).float().mean(), "rejected": self.rejected}

    def _write(self, row_NE: Tensor, id_N: Tensor, keep: Tensor) -> None:
        finite_N = row_NE.isfinite().all(1)
        # A row that is not finite takes its slot, so that order and age stay plain, but is no negative.
        row_NE = torch.where(finite_N[:, None], row_NE, 0.0)
        id_N = torch.where(finite_N, id_N, EMPTY)
        number_N = self.total + torch.arange(len(row_NE), device=self.total.device)
        # Of more rows than there is room for, the last ones stay.
        slot_N = number_N[-self.num_rows :] % self.num_rows
        self.rows_RE[slot_N] = torch.where(keep, row_NE[-self.num_rows :], self.rows_RE[slot_N])
        self.ids_R[slot_N] = torch.where(keep, id_N[-self.num_rows :], self.ids_R[slot_N])
        self.total = self.total + len(row_NE) * keep
        self.rejected = self.rejected + (finite_N.logical_not() & keep).sum()

    def _slots(self, count: int) -> Tensor:
        """Slots of the newest `count` rows, oldest first."""
        newest_N = torch.arange(-count, 0, device=self.total.device)
        return (self.total + newest_N) % self.num_rows

    def _chunks(self) -> Iterator[Chunk]:
        for start in range(0, self.num_rows, CHUNK_ROWS):
            ids_N = self.ids_R[start : start + CHUNK_ROWS]
            yield Chunk(self.rows_RE[start : start + CHUNK_ROWS], ids_N, ids_N != EMPTY)
