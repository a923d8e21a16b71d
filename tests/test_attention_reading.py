"""What a pass keeps and reads, and the closest rows.

Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from attention_parts import HIDES, METRICS, WAYS, B, E, N, chunked, go, pieces, tagged, unit
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genmem.attention import Chunk, closest, log_sum_exp
from genmem.contracts import Hide, Metric


class Largest(TorchDispatchMode):
    """Elements of the largest tensor any operation gives."""

    elements: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
        return out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", HIDES)
@pytest.mark.parametrize("metric", METRICS)
def test_one_pass_keeps_a_batch_by_width_tensor_and_no_batch_by_rows_tensor(
    monkeypatch: pytest.MonkeyPatch, way: str, by: str, metric: Metric
) -> None:
    """[31] The backward saves (B, E); nothing of B x rows elements ever exists."""
    go(way, monkeypatch)
    rows, size = 4096, 64
    memory, ids = tagged(unit(rows)), torch.arange(rows)
    q = unit(B, seed=1).repeat(5, 1).requires_grad_()
    every = HIDES[by]
    hide = Hide(*(None if part is None else part.repeat(5) for part in every[:3]), window=every.window)
    saved: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    def run(plain: bool) -> int:
        saved.clear()
        with Largest() as largest, saved_tensors_hooks(remember, lambda tensor: tensor):
            if plain:
                gone = ids[: len(q), None] == ids
                loss = torch.logsumexp((q @ memory.keys_NE.T).masked_fill(gone, -torch.inf), 1)
            else:
                loss = log_sum_exp(q, pieces(memory, size), 5.0, hide, metric).lse_B
            loss.sum().backward()
        return int(largest.elements)

    assert run(plain=False) <= len(q) * size and saved == [len(q) * E]
    assert run(plain=True) >= len(q) * rows and max(saved) >= len(q) * rows  # the wrong variant


def test_rows_are_read_once() -> None:
    """An iterator that can be read only once is enough, backward included."""
    read = 0

    def once() -> Iterator[Chunk]:
        nonlocal read
        for chunk in chunked(unit(N), 16):
            read += len(chunk.keys_NE)
            yield chunk

    q = unit(B, seed=1).requires_grad_()
    log_sum_exp(q, once(), 5.0).lse_B.sum().backward()
    assert read == N


def test_closest_rows() -> None:
    """Numbers and products of a full sort; what is missing is -inf with number -1."""
    q, keys = unit(B, seed=1), unit(N)
    values, numbers = closest(q, chunked(keys, 7), 5)
    products = q @ keys.T
    torch.testing.assert_close(values, products.sort(1, descending=True).values[:, :5])
    torch.testing.assert_close(products.gather(1, numbers), values)
    valid = torch.arange(N) == 30
    values, numbers = closest(q, chunked(torch.where(valid[:, None], keys, torch.nan), 7, None, valid), 2)
    assert numbers.tolist() == [[30, -1]] * B and bool((values[:, 1] == -torch.inf).all())
    with pytest.raises(ValueError, match="51 closest rows of a memory that has 50"):
        closest(q, chunked(keys, 7), N + 1)
