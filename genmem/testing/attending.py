"""Contract check of `MemoryStore.attend`: both metrics, and everything a row can be hidden by.

Shapes: B queries, E memory width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from genmem.contracts import Hide, MemoryStore, Metric, Tags

BATCH = 5
SCALE = 5.0
FAR = 1000.0


def unit_rows(store: MemoryStore, seed: int, count: int = BATCH) -> Tensor:
    """Unit rows (count, E) of the store's width."""
    rows = torch.randn(count, store.width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def written(store: MemoryStore) -> tuple[Tensor, Tags]:
    """The rows that the checks write: two of one class, one of another, two of none; at two times."""
    label_B = torch.tensor([7001, 7001, 7002, -1, -1])
    return unit_rows(store, 3), Tags(
        torch.arange(1000, 1000 + BATCH), label_B, torch.tensor([0.1, 0.1, 0.9, 0.9, 0.9])
    )


def check_attend(store: MemoryStore, tolerance: float) -> None:
    """Hold `attend` to its contract; a store that is written to holds `written` by now."""
    for metric in ("dot", "l2"):
        _check_derivative(store, metric)
        _check_own_rows(store, metric, tolerance)
    _check_labels(store)
    _check_times(store)


def _check_derivative(store: MemoryStore, metric: Metric) -> None:
    q = unit_rows(store, 4).requires_grad_()
    lse = store.attend(q, SCALE, metric=metric).lse_B
    assert lse.dtype == torch.float32, "log-sum-exp must be fp32"
    assert tuple(lse.shape) == (BATCH,) and bool(lse.isfinite().all()), "lse_B must be (B,), finite"
    (gradient,) = torch.autograd.grad(lse.sum(), q)
    step = 1e-2 * unit_rows(store, 5)
    with torch.no_grad():
        up, down = (store.attend(q + way * step, SCALE, metric=metric).lse_B for way in (1, -1))
    assert torch.allclose(up - down, 2 * (gradient * step).sum(1), atol=1e-3), (
        f"the gradient of attend is not its derivative ({metric})"
    )


def _check_own_rows(store: MemoryStore, metric: Metric, tolerance: float) -> None:
    """With a query's own row hidden, the sum over all rows lacks exactly that row's term."""
    known = _known(store)
    if known is None:
        return
    row_BE, ids_B = known
    q_BE = unit_rows(store, 6, len(row_BE))
    product_B = (q_BE * row_BE).sum(1) if metric == "dot" else -(q_BE - row_BE).square().sum(1)
    every = store.attend(q_BE, SCALE, metric=metric)
    others = store.attend(q_BE, SCALE, Hide(ids_B), metric)
    assert bool((every.count_B == others.count_B + 1).all()), "hide.ids_B must hide a query's own rows"
    others_B = others.lse_B.masked_fill(others.count_B == 0, -torch.inf)
    assert torch.allclose(
        every.lse_B, torch.logaddexp(others_B, SCALE * product_B), atol=SCALE * tolerance
    ), f"attend must sum exp(scale · s(q, row)) over the rows that count ({metric})"


def _known(store: MemoryStore) -> tuple[Tensor, Tensor] | None:
    """Rows (B, E) that the store holds once each, and their sample numbers, if that can be known."""
    if "write" in store.abilities:
        rows, tags = written(store)
        return rows, tags.ids_B
    if "condition" not in store.abilities:
        return None
    number_B = torch.arange(min(BATCH, store.num_rows))
    row_BKE, ids_B = store.rows(number_B), store.samples_of(number_B)
    every_N = store.samples_of(torch.arange(store.num_rows))
    # A sample that has a row in each view is hidden by both.
    once = bool(((ids_B[:, None] == every_N).sum(1) == 1).all())
    return (row_BKE[:, 0], ids_B) if row_BKE.shape[1] == 1 and once else None


def _check_labels(store: MemoryStore) -> None:
    q, tags = written(store)
    hide = Hide(label_B=tags.label_B)
    if "labels" not in store.abilities:
        return _check_refusal(store, hide, "labels")
    if "write" in store.abilities:
        hidden_B = store.attend(q, SCALE).count_B - store.attend(q, SCALE, hide).count_B
        assert hidden_B.tolist() == [2, 2, 1, 0, 0], (
            "hide.label_B must hide the rows of the query's class; -1 shares it with none"
        )
    return None


def _check_times(store: MemoryStore) -> None:
    q, tags = written(store)
    if "times" not in store.abilities:
        return _check_refusal(store, Hide(t_B=tags.t_B, window=0.5), "times")
    none = store.attend(q, SCALE, Hide(t_B=torch.full((BATCH,), FAR), window=1.0))
    assert not none.count_B.any() and not none.lse_B.any(), (
        "hide.t_B must hide every row whose time is `window` or more away; value and count are 0 then"
    )
    every = store.attend(q, SCALE).count_B
    assert torch.equal(store.attend(q, SCALE, Hide(t_B=tags.t_B)).count_B, every), (
        "an infinite window must hide nothing"
    )
    if "write" in store.abilities:
        hidden_B = every - store.attend(q, SCALE, Hide(t_B=tags.t_B, window=0.5)).count_B
        assert bool((hidden_B >= torch.tensor([3, 3, 2, 2, 2])).all()), (
            "hide.t_B must hide the rows written at other times"
        )
    return None


def _check_refusal(store: MemoryStore, hide: Hide, ability: str) -> None:
    try:
        store.attend(unit_rows(store, 4), SCALE, hide)
    except ValueError:
        return
    raise AssertionError(f"attend must refuse to hide by what only a store with {ability!r} knows")
