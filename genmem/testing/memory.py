"""Contract check of a memory store, and a store that is plainly right.

Shapes: B batch, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from genmem.contracts import Ability, Attended, Hide, MemoryStore, Metric, Tags
from genmem.draws import Draws
from genmem.testing.attending import BATCH, check_attend, unit_rows, written


class ListMemory(MemoryStore):
    """Rows in one tensor, everything by brute force: for tests of what uses a memory."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write", "labels", "times"})

    def __init__(self, rows_NE: Tensor, ids_N: Tensor | None = None) -> None:
        """Hold these rows, of no class, at time 0; ids count from 0 if absent."""
        self.rows_NE = rows_NE
        self.ids_N = torch.arange(len(rows_NE)) if ids_N is None else ids_N
        self.label_N = torch.full_like(self.ids_N, -1)
        self.t_N = torch.zeros(len(rows_NE), device=rows_NE.device)
        self.staged: list[tuple[Tensor, Tags]] = []

    @property
    def width(self) -> int:
        """E."""
        return self.rows_NE.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows held."""
        return len(self.rows_NE)

    def to(self, device: torch.device) -> None:
        """Move rows and what is known of them."""
        self.rows_NE, self.ids_N = self.rows_NE.to(device), self.ids_N.to(device)
        self.label_N, self.t_N = self.label_N.to(device), self.t_N.to(device)

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """The dense form."""
        q_BE, rows_NE = q_BE.float(), self.rows_NE.float()
        if metric == "dot":
            logits = scale * q_BE @ rows_NE.T
        else:
            logits = -scale * (q_BE[:, None] - rows_NE).square().sum(2)
        masked = self._hidden(hide or Hide(), torch.zeros_like(logits, dtype=torch.bool))
        count = (~masked).sum(1).float()
        lse = torch.logsumexp(logits.masked_fill(masked, -torch.inf), 1)
        return Attended(torch.where(count > 0, lse, torch.zeros_like(lse)), count)

    def _hidden(self, hide: Hide, hidden_BN: Tensor) -> Tensor:
        if hide.ids_B is not None:
            hidden_BN = hidden_BN | (hide.ids_B[:, None] == self.ids_N)
        if hide.label_B is not None:
            hidden_BN = hidden_BN | (hide.label_B[:, None] == self.label_N) & (self.label_N >= 0)
        if hide.t_B is not None:
            hidden_BN = hidden_BN | ((hide.t_B[:, None] - self.t_N).abs() >= hide.window)
        return hidden_BN

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """By a full product."""
        values, numbers = (q_BE @ self.rows_NE.T).topk(k)
        return values, numbers

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
        """Keep a copy."""
        label_B = torch.full_like(tags.ids_B, -1) if tags.label_B is None else tags.label_B.clone()
        t_B = torch.zeros(len(rows_BE), device=rows_BE.device) if tags.t_B is None else tags.t_B.clone()
        self.staged.append((rows_BE.detach().clone(), Tags(tags.ids_B.clone(), label_B, t_B)))

    def commit(self, keep: Tensor) -> None:
        """Append what was staged."""
        for rows_BE, tags in self.staged if bool(keep) else []:
            self.rows_NE = torch.cat([self.rows_NE, rows_BE])
            self.ids_N = torch.cat([self.ids_N, tags.ids_B])
            assert tags.label_B is not None and tags.t_B is not None
            self.label_N = torch.cat([self.label_N, tags.label_B])
            self.t_N = torch.cat([self.t_N, tags.t_B])
        self.discard()

    def discard(self) -> None:
        """Forget what was staged."""
        self.staged = []

    def state(self) -> dict[str, Tensor]:
        """Rows and what is known of them."""
        return {"rows": self.rows_NE, "ids": self.ids_N, "label": self.label_N, "t": self.t_N}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up rows and what is known of them."""
        if state["rows"].shape[1] != self.width:
            raise ValueError(f"the state has width {state['rows'].shape[1]}, this memory {self.width}")
        self.rows_NE, self.ids_N = state["rows"], state["ids"]
        self.label_N, self.t_N = state["label"], state["t"]


def check_memory(store: MemoryStore, *, tolerance: float = 2e-2) -> None:
    """Hold a built store to the contract of every ability it declares.

    Args:
        store: A store; one that is written to is changed.
        tolerance: Of values read back, absolute (a bf16 store rounds).

    Raises:
        AssertionError: What does not hold.
    """
    assert store.abilities, "a store must declare at least one ability"
    assert store.width > 0 and store.num_rows > 0, "width and num_rows must be above 0"
    if "write" in store.abilities:
        _check_write(store, tolerance)
    if "attend" in store.abilities:
        check_attend(store, tolerance)
    if "nearest" in store.abilities:
        values, numbers = store.nearest(unit_rows(store, 9), 1)
        assert tuple(values.shape) == tuple(numbers.shape) == (BATCH, 1), "nearest must give (B, k) twice"
    if "condition" in store.abilities:
        _check_condition(store)
    state = store.state()
    store.load_state(state)
    for key, value in store.state().items():
        assert torch.equal(value, state[key]), f"state {key!r} does not round-trip"


def _check_write(store: MemoryStore, tolerance: float) -> None:
    rows, tags = written(store)
    yes, no = torch.tensor(True), torch.tensor(False)
    before = store.state()
    store.stage(rows, tags)
    _same(before, store.state(), "stage must change nothing before commit")
    store.commit(no)
    _same(before, store.state(), "commit(False) must forget what was staged")
    store.commit(yes)
    _same(before, store.state(), "a second commit must find nothing staged")
    mutated = rows.clone()
    store.stage(mutated, tags)
    mutated.fill_(torch.nan)
    store.commit(yes)
    if "nearest" in store.abilities:
        values, _ = store.nearest(rows, 1)
        assert torch.allclose(values[:, 0].float(), torch.ones(BATCH), atol=tolerance), (
            "a written row must be found again"
        )


def _check_condition(store: MemoryStore) -> None:
    draws = Draws(0, torch.arange(BATCH))
    noise = draws.normal("noise", (1, 2, 2))
    numbers = store.choose(draws, None, noise)
    assert torch.equal(numbers, store.choose(draws, None, noise)), "choose must be reproducible"
    alone = store.choose(Draws(0, torch.arange(2, 3)), None, noise[2:3])
    assert torch.equal(alone, numbers[2:3]), "a row's choice must depend on its own identity alone"
    rows = store.rows(numbers)
    assert rows.ndim == 3 and rows.shape[0] == BATCH and rows.shape[2] == store.width, (
        "rows must be (B, K, E)"
    )
    assert len(store.samples_of(numbers)) == BATCH, "samples_of must give one sample number a row"
    assert len(store.labels_of(numbers)) == BATCH, "labels_of must give one class a row"
    _check_codes(store, numbers, rows)
    try:
        store.rows(torch.tensor([store.num_rows]))
    except IndexError:
        return
    raise AssertionError("rows must raise IndexError for a number that is not a row")


def _check_codes(store: MemoryStore, numbers: Tensor, rows: Tensor) -> None:
    codes = store.codes(numbers)
    assert torch.equal(store.decode(codes), rows), "decode of a row's code must be the row"
    ends = codes, codes.flip(0)
    for spherical in (False, True):
        for share, end in zip((1.0, 0.0), ends, strict=True):
            mixed = store.mix(*ends, torch.full((len(numbers),), share), spherical)
            assert torch.equal(mixed, end), "mix must be the first code at share 1, the second at share 0"


def _same(before: Mapping[str, Tensor], now: Mapping[str, Tensor], why: str) -> None:
    assert before.keys() == now.keys(), why
    for key, value in before.items():
        assert torch.equal(torch.nan_to_num(value.float()), torch.nan_to_num(now[key].float())), why
