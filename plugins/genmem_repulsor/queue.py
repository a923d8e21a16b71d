"""A first-in-first-out queue of rows.

The count of rows lives on the device, so writing needs no host synchronisation. What a queue holds
follows from the global batches it was fed, not from how many processes fed it.
Shapes: R slots, S slots of this process, E width, N rows written at once, B queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genmem.attention import Chunk, closest, log_sum_exp, rows_at_once
from genmem.collectives import world_size
from genmem.contracts import Ability, Attended, Hide, MemoryStore, Metric, Tags
from genmem_repulsor.queue_config import AUTO_BYTES
from genmem_repulsor.ring import EMPTY, Columns, Ring
from genmem_repulsor.sharing import PADDING, closest_of_all, gather_rows, pad_to_share

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Queue(MemoryStore):
    """The newest rows that training wrote, with sample, class and time of each."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write", "labels", "times"})

    def __init__(
        self,
        rows: int,
        width: int,
        dtype: Literal["bf16", "fp32"] = "bf16",
        *,
        max_age: int | None = None,
        shard: bool | Literal["auto"] = "auto",
        resume: Literal["restore", "refill"] = "restore",
        batch: int = 0,
    ) -> None:
        """An empty queue with room for `rows` rows of `width`.

        Args:
            rows: R.
            width: E.
            dtype: How rows are stored.
            max_age: Rows count until so many newer ones were written.
            shard: Whether a process holds its share of the rows or all.
            resume: Whether a saved state's rows are taken up.
            batch: Global batch: processes then bring up to their share of it, or whole shares. At
                0, equally many each.
        """
        kept = DTYPES[dtype]
        self.sharded = world_size() > 1 and (
            rows * width * kept.itemsize > AUTO_BYTES if shard == "auto" else shard
        )
        self.ring = Ring(rows, width, kept, self.sharded)
        self._width, self._rows, self._max_age = width, rows, max_age or rows
        self._resume = resume
        self._share = batch // world_size() if world_size() > 1 else 0
        self.total = torch.tensor(0)
        """Rows ever written; the next one's number."""

        self.first = torch.tensor(0)
        """Number of the oldest row it ever took: above 0 after a load into a larger queue."""

        self.rejected = torch.tensor(0)
        """Rows that were not finite and so are no negatives."""

        self._staged: list[Columns] = []

    @property
    def width(self) -> int:
        """E."""
        return self._width

    @property
    def num_rows(self) -> int:
        """Rows there is room for and that are not too old."""
        return min(self._rows, self._max_age)

    def to(self, device: torch.device) -> None:
        """Move the ring and its counts."""
        self.ring.to(device)
        self.total, self.first = self.total.to(device), self.first.to(device)
        self.rejected = self.rejected.to(device)

    # attend, nearest -----------------------------------------------------------------------

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """log-sum-exp over the rows held, but those hidden. Collective where sharded."""
        return log_sum_exp(q_BE, self._chunks(hide or Hide()), scale, hide, metric, sharded=self.sharded)

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and slots (B, k); -inf and -1 where fewer than k rows are held.

        Collective where sharded, with equally many queries on every process.

        Raises:
            ValueError: k above the room of the queue.
        """
        if not self.sharded:
            return closest(q_BE, self._chunks(Hide()), k)
        if k > self._rows:
            raise ValueError(
                f"asked for the {k} closest rows of a memory that has {self._rows}; ask for fewer"
            )
        return closest_of_all(q_BE, self._chunks(Hide()), k, self.ring)

    # write ---------------------------------------------------------------------------------

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
        """Keep a copy of this micro-batch's rows, in order, until `commit`.

        Raises:
            ValueError: Rows of another width.
        """
        if rows_BE.shape != (len(tags.ids_B), self.width):
            raise ValueError(
                f"rows of shape {tuple(rows_BE.shape)} for {len(tags.ids_B)} samples do not fit a queue "
                f"of width {self.width}"
            )
        ids_B = tags.ids_B
        given = {
            "rows": rows_BE,
            "ids": ids_B,
            "label": torch.full_like(ids_B, -1) if tags.label_B is None else tags.label_B,
            "t": torch.full_like(ids_B, torch.nan, dtype=torch.float32) if tags.t_B is None else tags.t_B,
        }
        kept = self.ring.none()
        self._staged.append({k: v.detach().to(kept[k].dtype, copy=True) for k, v in given.items()})

    @torch.no_grad()
    def commit(self, keep: Tensor) -> None:
        """Write what all ranks staged, in rank order, if `keep`; else forget it.

        A rank with nothing staged joins the collective all the same.

        Raises:
            ValueError: More rows than a process's share of the batch, and not whole shares.
        """
        staged, self._staged = self._staged, []
        none = self.ring.none()
        own = {name: torch.cat([none[name], *(part[name] for part in staged)]) for name in none}
        self._write(gather_rows(pad_to_share(own, self._share)), keep)

    def discard(self) -> None:
        """Forget what was staged."""
        self._staged = []

    # state ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Rows and what is known of them, oldest first, and the counts. Collective where sharded."""
        slot_N = self._slots(min(int(self.total - self.first), self._rows))
        held = {name: column[slot_N] for name, column in self.ring.whole().items()}
        return held | {"total": self.total.clone(), "rejected": self.rejected.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up the newest rows there is room for; the rest of a larger queue stays empty.

        With `resume = "refill"` only the counts are taken up.

        Raises:
            ValueError: Rows of another width or dtype.
        """
        kept = self.ring.none()
        if self._resume == "restore":
            self._check(state["rows"])
            kept = {name: state[name][-self._rows :].to(none.device) for name, none in kept.items()}
        self.discard()
        self.total, self.rejected = state["total"].to(self.total), state["rejected"].to(self.rejected)
        self.first = self.total - len(kept["ids"])
        self.ring.empty()
        number_N = self.first + torch.arange(len(kept["ids"]), device=self.total.device)
        self.ring.put(kept, number_N, torch.ones_like(number_N, dtype=torch.bool))

    def num_bytes(self) -> int:
        """Rows and what is known of them, on this process."""
        return self.ring.num_bytes()

    def metrics(self) -> dict[str, Tensor]:
        """Share of the room that holds negatives, their mean age in images written (the newest's is
        0), rows rejected so far. Of this process's share of the slots."""
        valid_S, age_S = self._valid(), self.ages()
        number = valid_S.sum()
        return {
            "filled": valid_S.float().mean(),
            "age": (age_S * valid_S).sum() / number.clamp(min=1),
            "rejected": self.rejected,
        }

    def ages(self) -> Tensor:
        """(S,) rows written since each slot of this process was."""
        return (self.total - 1 - self.ring.slot_numbers()) % self._rows

    def _check(self, row_NE: Tensor) -> None:
        way_out = 'set it back in the memory\'s table, or give up the saved rows with resume = "refill"'
        if row_NE.shape[1] != self.width:
            raise ValueError(
                f"the saved queue holds rows of width {row_NE.shape[1]}, this one takes width {self.width}; "
                f"{way_out}"
            )
        dtype = self.ring["rows"].dtype
        if row_NE.dtype != dtype:
            raise ValueError(f"the saved queue holds rows in {row_NE.dtype}, this one in {dtype}; {way_out}")

    def _write(self, new: Columns, keep: Tensor) -> None:
        brought_N = (new["ids"] != PADDING) & keep
        finite_N = new["rows"].isfinite().all(1)
        # A row that is not finite takes its slot, so that order and age stay plain, but is no negative.
        new["rows"] = torch.where(finite_N[:, None], new["rows"], 0.0)
        new["ids"] = torch.where(finite_N, new["ids"], EMPTY)
        number_N = self.total + brought_N.cumsum(0) - 1
        self.total = self.total + brought_N.sum()
        # Of more rows than there is room for, the last ones stay.
        self.ring.put(new, number_N, brought_N & (number_N >= self.total - self._rows))
        self.rejected = self.rejected + (brought_N & ~finite_N).sum()

    def _slots(self, count: int) -> Tensor:
        """Slots of the newest `count` rows, oldest first."""
        newest_N = torch.arange(-count, 0, device=self.total.device)
        return (self.total + newest_N) % self._rows

    def _valid(self) -> Tensor:
        """(S,) bool: slots that hold a negative."""
        held_S = self.ring["ids"] != EMPTY
        return held_S if self._max_age >= self._rows else held_S & (self.ages() < self._max_age)

    def _chunks(self, hide: Hide) -> Iterator[Chunk]:
        """The rows, with as much of what is known of them as `hide` asks for."""
        valid_S, ring = self._valid(), self.ring
        size = rows_at_once(valid_S.device)
        for start in range(0, ring.places, size):
            part = slice(start, start + size)
            yield Chunk(
                ring["rows"][part],
                None if hide.ids_B is None else ring["ids"][part],
                valid_S[part],
                None if hide.label_B is None else ring["label"][part].long(),
                None if hide.t_B is None else ring["t"][part],
            )
