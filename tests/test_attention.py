"""log_sum_exp and closest against dense float64 forms and closed forms.

Numbers in brackets are those of the queue traps in the reference on objectives.
Shapes: B queries, E width, N rows.
"""

from __future__ import annotations

import math

import pytest
import scipy.special
import torch
import torch.nn.functional as F
from attention_parts import (
    HIDES,
    METRICS,
    WAYS,
    B,
    E,
    N,
    asking,
    chunked,
    define,
    go,
    hidden,
    pieces,
    tagged,
    unit,
)
from torch import Tensor

from genmem.attention import closest, log_sum_exp
from genmem.contracts import Hide, Metric


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to take a chunk is tested by everything here; flex attention has a file of its own."""
    go(request.param, monkeypatch)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("by", HIDES)
@pytest.mark.parametrize("size", [1, 7, N, N + 9])
def test_value_and_gradient_equal_the_definition(size: int, by: str, metric: Metric) -> None:
    """[11]"""
    q, rows = unit(B, seed=1, dtype=torch.float64).requires_grad_(), tagged(unit(N, dtype=torch.float64))
    gone = hidden(rows, HIDES[by], B)
    expected = define(q, rows.keys_NE, 5.0, gone, metric)
    (gradient,) = torch.autograd.grad(expected.square().sum(), q)

    lse, count = log_sum_exp(q, pieces(rows, size), 5.0, HIDES[by], metric)
    (found,) = torch.autograd.grad(lse.square().sum(), q)
    torch.testing.assert_close(lse, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)
    assert torch.equal(count.long(), (~gone).sum(1))


@pytest.mark.parametrize("metric", METRICS)
def test_gradcheck(metric: Metric) -> None:
    """[11]"""
    rows, hide = tagged(unit(9, dtype=torch.float64)), Hide(*(part[:3] for part in asking()[:3]), window=0.4)
    q = unit(3, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: log_sum_exp(q, pieces(rows, 4), 3.0, hide, metric).lse_B, q)


def test_the_wrong_variants_differ() -> None:
    """A query's own row left in; and taken out by subtraction, which has no digits left at τ = 0.05."""
    keys = unit(N, 64, seed=1)
    q, ids = keys[:B].clone(), torch.arange(N)
    expected = define(q, keys, 20.0, ids[:B, None] == ids).float()
    every = log_sum_exp(q, chunked(keys, 16, ids), 20.0).lse_B
    found = log_sum_exp(q, chunked(keys, 16, ids), 20.0, Hide(ids[:B])).lse_B
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert bool((every > found).all()) and float((every - found).max()) > 1
    subtracted = (every.exp() - torch.tensor(20.0).exp()).log()
    assert not torch.allclose(subtracted, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_distances_survive_an_offset(offset: float) -> None:
    """Queries and rows far from the origin, near each other: the plain expansion loses every digit."""
    q, keys = unit(B, seed=1), unit(N)
    shifted, rows = q + offset, keys + offset
    expected = define(shifted, rows, 5.0, torch.zeros(B, N, dtype=torch.bool), "l2").float()
    found = log_sum_exp(shifted.requires_grad_(), chunked(rows, 16), 5.0, metric="l2").lse_B
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), shifted)
    torch.testing.assert_close(gradient, _l2_gradient(shifted, rows), rtol=1e-4, atol=1e-4)
    expanded = 2 * shifted @ rows.T - rows.square().sum(1) - shifted.square().sum(1)[:, None]
    lost = float((torch.logsumexp(5.0 * expanded, 1) - expected).detach().abs().max())
    assert lost > 0.1 if offset else lost < 1e-4


def _l2_gradient(q: Tensor, rows: Tensor) -> Tensor:
    at = q.detach().double().requires_grad_()
    value = define(at, rows, 5.0, torch.zeros(B, N, dtype=torch.bool), "l2")
    return torch.autograd.grad(value.sum(), at)[0].float()


def test_l2_is_cosine_at_half_the_temperature() -> None:
    """[14] On unit vectors ℓ2(τ) = cos(τ/2) - 2/τ."""
    q, keys = unit(B, seed=1, dtype=torch.float64), unit(N, dtype=torch.float64)
    distance = log_sum_exp(q, chunked(keys, 16), 5.0, metric="l2").lse_B
    cosine = log_sum_exp(q, chunked(keys, 16), 10.0).lse_B
    torch.testing.assert_close(distance, cosine - 10.0, rtol=1e-12, atol=1e-12)


def test_what_rows_do_not_know_cannot_hide_them() -> None:
    """Classes and times are refused by name; rows without sample numbers are hidden from nobody."""
    q, keys = unit(B), unit(N)
    with pytest.raises(ValueError, match="cannot be hidden by class: this memory does not know the class"):
        log_sum_exp(q, chunked(keys, 16), 5.0, Hide(label_B=torch.zeros(B).long()))
    with pytest.raises(ValueError, match="cannot be hidden by time"):
        log_sum_exp(q, chunked(keys, 16), 5.0, Hide(t_B=torch.zeros(B)))
    assert (
        log_sum_exp(q, chunked(keys, 16), 5.0, asking()._replace(label_B=None, t_B=None)).count_B == N
    ).all()


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
    metric: Metric = "l2" if why == "every row is the query's own" else "dot"
    if why == "no row is valid":
        chunks = chunked(keys, 16, None, torch.zeros(N, dtype=torch.bool))
    else:
        chunks = chunked(unit(N), 16, torch.full((N,), 4))
    lse, count = log_sum_exp(q, chunks, 5.0, Hide(torch.full((B,), 4)), metric)
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
        torch.testing.assert_close(lse, define(q, keys, 5.0, (~valid).expand(B, N)).float())
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
