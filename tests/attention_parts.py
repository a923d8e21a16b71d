"""Rows, tags and the definition of log_sum_exp in float64, for its tests.

Shapes: B queries, N rows, E width.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.attention import Chunk, fused, passes
from genmem.contracts import Hide, Metric

B, N, E = 6, 50, 8


def unit(count: int, width: int = E, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    source = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=source, dtype=torch.float64), dim=1).to(dtype)


def tagged(keys: Tensor) -> Chunk:
    """Rows of which everything is known, some of them not valid."""
    number = torch.arange(len(keys))
    return Chunk(keys, number % 20, number % 9 != 4, number % 4 - 1, number % 7 / 7)


def asking() -> Hide:
    """What is hidden from B queries: everything there is to hide by."""
    return Hide(
        torch.tensor([3, 7, 7, 19, 100, 0]),
        torch.tensor([0, -1, 2, 1, -1, 5]),
        torch.tensor([0.1, 0.9, 0.5, 0.0, 0.3, 0.7]),
        window=0.5,
    )


HIDES = {
    "nothing": Hide(),
    "ids": Hide(asking().ids_B),
    "classes": Hide(label_B=asking().label_B),
    "times": Hide(t_B=asking().t_B, window=0.5),
    "all": asking(),
}
WAYS = ("fused", "without the operator", "as on an accelerator")


def go(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take chunks in one of the ways."""
    if way == "without the operator":
        monkeypatch.setattr(fused, "available", lambda dtype: False)
    if way == "as on an accelerator":
        monkeypatch.setattr(passes, "on_host", lambda tensor: False)


METRICS: tuple[Metric, ...] = ("dot", "l2")


def pieces(rows: Chunk, size: int) -> Iterator[Chunk]:
    """The same in chunks of `size`."""
    for start in range(0, len(rows.keys_NE), size):
        part = slice(start, start + size)
        yield Chunk(*(None if field is None else field[part] for field in rows))  # type: ignore[arg-type]


def chunked(
    keys: Tensor, size: int, ids: Tensor | None = None, valid: Tensor | None = None
) -> Iterator[Chunk]:
    """Rows in chunks of `size`."""
    return pieces(Chunk(keys, ids, valid), size)


def hidden(rows: Chunk, hide: Hide, count: int) -> Tensor:
    """(B, N): pair by pair, in plain Python."""
    found = torch.zeros(count, len(rows.keys_NE), dtype=torch.bool)
    for i in range(count):
        for j in range(len(rows.keys_NE)):
            why = [rows.valid_N is not None and not rows.valid_N[j]]
            if hide.ids_B is not None and rows.ids_N is not None:
                why.append(hide.ids_B[i] == rows.ids_N[j])
            if hide.label_B is not None and rows.label_N is not None:
                why.append(hide.label_B[i] == rows.label_N[j] != -1)
            if hide.t_B is not None and rows.t_N is not None:
                why.append(abs(float(hide.t_B[i] - rows.t_N[j])) >= hide.window)
            found[i, j] = any(map(bool, why))
    return found


def define(q: Tensor, keys: Tensor, scale: float, gone: Tensor, metric: Metric = "dot") -> Tensor:
    """The definition, in float64, query by query; 0 where nothing counts."""
    q, keys = q.double(), keys.double()
    lines = []
    for one, away in zip(q, gone, strict=True):
        left = keys[~away]
        s = left @ one if metric == "dot" else -(one - left).square().sum(1)
        lines.append(torch.logsumexp(scale * s, 0) if len(left) else 0.0 * one.sum())
    return torch.stack(lines)
