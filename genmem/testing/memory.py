"""Contract check of a memory store, and a store that is plainly right.

Shapes: B batch, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from genmem.contracts import Ability, Attended, MemoryStore
from genmem.draws import Draws

BATCH = 5


class ListMemory(MemoryStore):
    """Rows in one tensor, everything by brute force: for tests of what uses a memory."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"attend", "nearest", "write"})

    def __init__(self, rows_NE: Tensor, ids_N: Tensor | None = None) -> None:
        """Hold these rows; ids count from 0 if absent."""
        self.rows_NE = rows_NE
        self.ids_N = torch.arange(len(rows_NE)) if ids_N is None else ids_N
        self.staged: list[tuple[Tensor, Tensor]] = []

    @property
    def width(self) -> int:
        """E."""
        return self.rows_NE.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows held."""
        return len(self.rows_NE)

    def to(self, device: torch.device) -> None:
        """Move rows and ids."""
        self.rows_NE, self.ids_N = self.rows_NE.to(device), self.ids_N.to(device)

    def attend(self, q_BE: Tensor, scale: float, ids_B: Tensor | None = None) -> Attended:
        """The dense form."""
        logits = scale * q_BE.float() @ self.rows_NE.float().T
        masked = torch.zeros_like(logits, dtype=torch.bool) if ids_B is None else ids_B[:, None] == self.ids_N
        count = (~masked).sum(1).float()
        lse = torch.logsumexp(logits.masked_fill(masked, -torch.inf), 1)
        return Attended(torch.where(count > 0, lse, torch.zeros_like(lse)), count)

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """By a full product."""
        values, numbers = (q_BE @ self.rows_NE.T).topk(k)
        return values, numbers

    def stage(self, rows_BE: Tensor, ids_B: Tensor) -> None:
        """Keep a copy."""
        self.staged.append((rows_BE.detach().clone(), ids_B.clone()))

    def commit(self, keep: Tensor) -> None:
        """Append what was staged."""
        if bool(keep):
            self.rows_NE = torch.cat([self.rows_NE, *(rows for rows, _ in self.staged)])
            self.ids_N = torch.cat([self.ids_N, *(ids for _, ids in self.staged)])
        self.discard()

    def discard(self) -> None:
        """Forget what was staged."""
        self.staged = []

    def state(self) -> dict[str, Tensor]:
        """Rows and ids."""
        return {"rows": self.rows_NE, "ids": self.ids_N}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up rows and ids."""
        if state["rows"].shape[1] != self.width:
            raise ValueError(f"the state has width {state['rows'].shape[1]}, this memory {self.width}")
        self.rows_NE, self.ids_N = state["rows"], state["ids"]


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
        _check_attend(store)
    if "nearest" in store.abilities:
        values, numbers = store.nearest(_unit(store, 9), 1)
        assert tuple(values.shape) == tuple(numbers.shape) == (BATCH, 1), "nearest must give (B, k) twice"
    if "condition" in store.abilities:
        _check_condition(store)
    state = store.state()
    store.load_state(state)
    for key, value in store.state().items():
        assert torch.equal(value, state[key]), f"state {key!r} does not round-trip"


def _unit(store: MemoryStore, seed: int, count: int = BATCH) -> Tensor:
    rows = torch.randn(count, store.width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def _check_write(store: MemoryStore, tolerance: float) -> None:
    rows, ids = _unit(store, 3), torch.arange(1000, 1000 + BATCH)
    yes, no = torch.tensor(True), torch.tensor(False)
    before = store.state()
    store.stage(rows, ids)
    _same(before, store.state(), "stage must change nothing before commit")
    store.commit(no)
    _same(before, store.state(), "commit(False) must forget what was staged")
    store.commit(yes)
    _same(before, store.state(), "a second commit must find nothing staged")
    mutated = rows.clone()
    store.stage(mutated, ids)
    mutated.fill_(torch.nan)
    store.commit(yes)
    if "nearest" in store.abilities:
        values, _ = store.nearest(rows, 1)
        assert torch.allclose(values[:, 0].float(), torch.ones(BATCH), atol=tolerance), (
            "a written row must be found again"
        )


def _check_attend(store: MemoryStore) -> None:
    q = _unit(store, 4).requires_grad_()
    attended = store.attend(q, 5.0)
    assert attended.lse_B.dtype == torch.float32, "log-sum-exp must be fp32"
    assert tuple(attended.lse_B.shape) == (BATCH,) and bool(attended.lse_B.isfinite().all()), (
        "lse_B must be (B,), finite"
    )
    (gradient,) = torch.autograd.grad(attended.lse_B.sum(), q)
    direction = _unit(store, 5)
    with torch.no_grad():
        step = 1e-2
        moved = store.attend(q + step * direction, 5.0).lse_B - store.attend(q - step * direction, 5.0).lse_B
    expected = (gradient * direction).sum(1)
    assert torch.allclose(moved / (2 * step), expected, atol=5e-2), (
        "the gradient of attend is not its derivative"
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
    try:
        store.rows(torch.tensor([store.num_rows]))
    except IndexError:
        return
    raise AssertionError("rows must raise IndexError for a number that is not a row")


def _same(before: Mapping[str, Tensor], now: Mapping[str, Tensor], why: str) -> None:
    assert before.keys() == now.keys(), why
    for key, value in before.items():
        assert torch.equal(torch.nan_to_num(value.float()), torch.nan_to_num(now[key].float())), why
