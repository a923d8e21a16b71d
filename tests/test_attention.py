"""log_sum_exp and closest against dense float64 forms and closed forms.

Numbers in brackets are those of the queue traps in the reference on objectives.
Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genmem import attention
from genmem.attention import Chunk, closest, log_sum_exp

B, N, E = 6, 50, 8


@pytest.fixture(params=["on the host", "as on an accelerator"], autouse=True)
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to leave rows out are tested by everything here."""
    monkeypatch.setattr(attention, "_on_host", lambda tensor: request.param == "on the host")
    return str(request.param)


def unit(count: int, width: int = E, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    source = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=source, dtype=torch.float64), dim=1).to(dtype)


def chunked(
    keys: Tensor, size: int, ids: Tensor | None = None, valid: Tensor | None = None
) -> Iterator[Chunk]:
    """Rows in chunks of `size`."""
    for start in range(0, len(keys), size):
        part = slice(start, start + size)
        yield Chunk(keys[part], None if ids is None else ids[part], None if valid is None else valid[part])


def dense(q: Tensor, keys: Tensor, scale: float, hidden: Tensor) -> Tensor:
    """The definition, in float64, query by query."""
    logits = scale * q.double() @ keys.double().T
    rows = [torch.logsumexp(line[~gone], 0) for line, gone in zip(logits, hidden, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("size", [1, 7, N, N + 9])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_equal_the_definition(size: int, masked: bool) -> None:
    """[11]"""
    q, keys = unit(B, seed=1, dtype=torch.float64).requires_grad_(), unit(N, dtype=torch.float64)
    ids, own = torch.arange(N) % 20, torch.tensor([3, 7, 7, 19, 100, 0])
    valid = torch.arange(N) % 9 != 4
    hidden = (own[:, None] == ids) | ~valid if masked else torch.zeros(B, N, dtype=torch.bool)
    expected = dense(q, keys, 5.0, hidden)
    (gradient,) = torch.autograd.grad(expected.square().sum(), q)

    chunks = chunked(keys, size, ids, valid) if masked else chunked(keys, size)
    lse, count = log_sum_exp(q, chunks, 5.0, own if masked else None)
    (found,) = torch.autograd.grad(lse.square().sum(), q)
    torch.testing.assert_close(lse, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)
    assert torch.equal(count.long(), (~hidden).sum(1))


def test_gradcheck() -> None:
    """[11]"""
    keys, ids = unit(9, dtype=torch.float64), torch.arange(9)
    q = unit(3, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: log_sum_exp(q, chunked(keys, 4, ids), 3.0, ids[:3]).lse_B, q)


def test_gradient_is_attention_with_the_keys_as_values() -> None:
    """Oracle 4: fused attention gives the same numbers."""
    q, keys = unit(B, seed=1).requires_grad_(), unit(N)
    (found,) = torch.autograd.grad(log_sum_exp(q, chunked(keys, 16), 5.0).lse_B.sum(), q)
    attended = F.scaled_dot_product_attention(q[None], keys[None], keys[None], scale=5.0)[0]
    torch.testing.assert_close(found, 5.0 * attended, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("why", ["no row is valid", "every row is the query's own"])
def test_no_row_counts(why: str) -> None:
    """[5] Value 0, count 0, gradient 0, all finite, the graph intact, whatever the rows hold."""
    q, keys = unit(B, seed=1).requires_grad_(), torch.full((N, E), torch.nan)
    if why == "no row is valid":
        chunks = chunked(keys, 16, None, torch.zeros(N, dtype=torch.bool))
    else:
        chunks = chunked(unit(N), 16, torch.full((N,), 4))
    lse, count = log_sum_exp(q, chunks, 5.0, torch.full((B,), 4))
    lse.sum().backward()
    assert torch.equal(lse, torch.zeros(B)) and torch.equal(count, torch.zeros(B))
    assert q.grad is not None and torch.equal(q.grad, torch.zeros(B, E))


def test_rows_that_are_not_valid_are_never_read() -> None:
    """[4] NaN and infinity in them change nothing; a mask on the logits alone would not do."""
    q, keys, valid = unit(B, seed=1).requires_grad_(), unit(N), torch.arange(N) < 20
    poisoned = keys.clone()
    poisoned[20:] = torch.nan
    poisoned[-1] = torch.inf
    for rows in (keys, poisoned):
        q.grad = None
        lse = log_sum_exp(q, chunked(rows, 16, None, valid), 5.0).lse_B
        lse.sum().backward()
        torch.testing.assert_close(lse, dense(q, keys, 5.0, (~valid).expand(B, N)).float())
        assert q.grad is not None and bool(q.grad.isfinite().all())
    weight = torch.softmax((q @ poisoned.T).masked_fill(~valid, -torch.inf), 1)
    assert bool((weight @ poisoned).isnan().any())  # the wrong variant


def test_large_logits_do_not_overflow() -> None:
    """[12] Shifted by 1e4: the value shifts, the gradient's direction stays."""
    keys = unit(N, dtype=torch.float64)
    one, zero = torch.ones(N, 1, dtype=torch.float64), torch.zeros(N, 1, dtype=torch.float64)
    q = F.pad(unit(B, seed=1, dtype=torch.float64), (0, 1), value=1e4).requires_grad_()
    shifted = log_sum_exp(q, chunked(torch.cat([keys, one], 1), 16), 1.0).lse_B
    plain = log_sum_exp(q, chunked(torch.cat([keys, zero], 1), 16), 1.0).lse_B
    torch.testing.assert_close(shifted, plain + 1e4, rtol=1e-12, atol=1e-9)
    assert bool(
        log_sum_exp(q.float(), chunked(torch.cat([keys, one], 1).float(), 16), 1.0).lse_B.isfinite().all()
    )
    assert bool((q.float() @ torch.cat([keys, one], 1).float().T).exp().isinf().all())  # the wrong variant


@pytest.mark.parametrize(("temperature", "most"), [(0.05, 2e-4), (0.07, 5e-5), (0.1, 3.3e-5), (0.2, 3.3e-5)])
def test_bf16_rows_cost_almost_nothing(temperature: float, most: float) -> None:
    """[12] Within the reference's table: mean |ΔL| over queries, 65,536 rows of width 128."""
    q, keys = unit(16, 128, seed=1, dtype=torch.float64), unit(65_536, 128, dtype=torch.float64)
    exact = torch.logsumexp(q @ keys.T / temperature, 1).mean()
    stored = log_sum_exp(q, chunked(keys.bfloat16(), 8192), 1 / temperature).lse_B.mean()
    assert abs(float(stored - exact)) < most


@pytest.mark.parametrize("temperature", [0.1, 0.2, 0.5])
def test_closed_forms(temperature: float) -> None:
    """[13] Uniform rows: 0F1 within three standard errors; equal rows: 1/τ; orthogonal rows: 0."""
    keys, width = unit(65_536, 32, seed=2, dtype=torch.float64), 32
    q = F.one_hot(torch.tensor([0]), width).double()
    found = float(log_sum_exp(q, chunked(keys, 4096), 1 / temperature).lse_B) - math.log(len(keys))
    z = 1 / (4 * temperature**2)
    floor = float(scipy.special.hyp0f1(width / 2, z))
    second = float(scipy.special.hyp0f1(width / 2, 4 * z))
    error = math.sqrt((second - floor**2) / len(keys)) / floor
    assert abs(found - math.log(floor)) < 3 * error
    same = log_sum_exp(q, chunked(q.expand(100, width), 30), 1 / temperature).lse_B
    assert float(same) - math.log(100) == pytest.approx(1 / temperature)
    across = log_sum_exp(q, chunked(torch.eye(width, dtype=torch.float64)[1:], 30), 1 / temperature).lse_B
    assert float(across) - math.log(width - 1) == pytest.approx(0.0, abs=1e-12)


def test_duplicated_rows_change_nothing_but_the_count() -> None:
    """[15]"""
    q, keys = unit(B, seed=1), unit(N)
    once, twice = (log_sum_exp(q, chunked(rows, 16), 5.0) for rows in (keys, torch.cat([keys, keys])))
    torch.testing.assert_close(once.lse_B - once.count_B.log(), twice.lse_B - twice.count_B.log())


def test_fp32_under_autocast() -> None:
    """[25]"""
    q, keys = unit(B, seed=1).requires_grad_(), unit(N)
    plain = log_sum_exp(q, chunked(keys, 16), 5.0).lse_B
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = log_sum_exp(q, chunked(keys, 16), 5.0).lse_B
        halved = log_sum_exp(q.bfloat16(), chunked(keys, 16), 5.0).lse_B
        values, _ = closest(q, chunked(keys, 16), 3)
    assert torch.equal(cast, plain) and halved.dtype == values.dtype == torch.float32
    assert torch.equal(values, closest(q, chunked(keys, 16), 3)[0])


class Largest(TorchDispatchMode):
    """Elements of the largest tensor any operation gives."""

    elements: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
        return out


def test_one_pass_keeps_a_batch_by_width_tensor_and_no_batch_by_rows_tensor() -> None:
    """[31] The backward saves (B, E); nothing of B x rows elements ever exists."""
    rows, size = 4096, 64
    q, keys, ids = unit(32, seed=1).requires_grad_(), unit(rows), torch.arange(rows)
    valid = ids >= 0
    saved: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    def run(plain: bool) -> int:
        saved.clear()
        with Largest() as largest, saved_tensors_hooks(remember, lambda tensor: tensor):
            if plain:
                loss = torch.logsumexp((q @ keys.T).masked_fill(ids[:32, None] == ids, -torch.inf), 1)
            else:
                loss = log_sum_exp(q, chunked(keys, size, ids, valid), 5.0, ids[:32]).lse_B
            loss.sum().backward()
        return int(largest.elements)

    assert run(plain=False) <= 32 * size and saved == [32 * E]
    assert run(plain=True) >= 32 * rows and max(saved) >= 32 * rows  # the wrong variant


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
