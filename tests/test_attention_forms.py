"""Fused attention, the chunked form and flex attention give the same numbers; none waits for a device.

Shapes: B queries, N rows, E width.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_parts import HIDES, METRICS, B, N, asking, define, hidden, pieces, tagged, unit
from synchronisation import no_host_synchronisation
from torch import Tensor

from genmem.attention import Chunk, flex, fused, host, log_sum_exp, passes, rows_at_once
from genmem.attention.hiding import Rows, select
from genmem.attention.masked import attend_masked
from genmem.attention.partial import Partial
from genmem.contracts import Hide, Metric

CPU = torch.device("cpu")


def sums(part: Partial) -> tuple[Tensor, Tensor, Tensor]:
    """What does not depend on the level that sums are relative to."""
    return part.high_B + part.sum_B.log(), part.pull_BE / part.sum_B[:, None], part.count_B


@pytest.mark.parametrize("queries", [1, 6, 64, 65, 130])
@pytest.mark.parametrize("rows", [1, 12, 64, 1001])
@pytest.mark.parametrize("biased", [False, True])
def test_fused_attention_is_the_chunked_form(queries: int, rows: int, biased: bool) -> None:
    """In one part and in several, with and without a bias."""
    q, keys = 3 * unit(queries, seed=1, width=24), unit(rows, width=24)
    bias = torch.linspace(-2, 2, rows) if biased else None
    assert fused.available(torch.float32) and fused.available(torch.float64)
    expected = sums(attend_masked(q, Rows(keys, Chunk(keys), bias), Hide()))
    torch.testing.assert_close(sums(fused.attend(q, keys, bias)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_rows_are_divided_where_threads_have_too_little_to_do(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Few queries: as many parts as threads, if they come out even."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert fused._parts(6, 64) == threads and fused._parts(6, 61) == 1
    assert fused._parts(256, 64) == 1
    q, keys = unit(6, seed=1), unit(64)
    expected = sums(attend_masked(q, Rows(keys, Chunk(keys)), Hide()))
    torch.testing.assert_close(sums(fused.attend(q, keys, None)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["gone", "another log-sum-exp", "no bias", "another signature"])
def test_an_operator_that_changed_is_not_used(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A small computation tells; the pass goes on without it."""
    real = fused._attend_in_parts

    def changed(q: Tensor, keys: Tensor, bias: Tensor | None, parts: int) -> tuple[Tensor, Tensor]:
        if change in ("gone", "another signature"):
            raise AttributeError if change == "gone" else TypeError
        lse, mean = real(q, keys, None if change == "no bias" else bias, parts)
        return (lse / 0.6931, mean) if change == "another log-sum-exp" else (lse, mean)

    q, keys = unit(B, seed=1), unit(N)
    expected = log_sum_exp(q, [Chunk(keys)], 5.0).lse_B
    fused.available.cache_clear()
    monkeypatch.setattr(fused, "_attend_in_parts", changed)
    try:
        assert not fused.available(torch.float32)
        torch.testing.assert_close(log_sum_exp(q, [Chunk(keys)], 5.0).lse_B, expected)
    finally:
        fused.available.cache_clear()


def test_masks_on_the_host_are_taken_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a chunk is; the parts put together are the whole."""
    seen = []

    def watched(q: Tensor, rows: Rows, hide: Hide) -> Partial:
        seen.append(len(rows.keys_NE))
        return attend_masked(q, rows, hide)

    monkeypatch.setattr(host, "PRODUCTS", 60)
    monkeypatch.setattr(host, "attend_masked", watched)
    q, rows = unit(B, seed=1), tagged(unit(N))
    for metric in METRICS:
        lse = log_sum_exp(q, [rows], 5.0, asking(), metric).lse_B
        expected = define(q, rows.keys_NE, 5.0, hidden(rows, asking(), B), metric).float()
        torch.testing.assert_close(lse, expected, rtol=1e-5, atol=1e-5)
    assert max(seen) == 60 // B + 1 and len(seen) == 2 * -(-44 // 11)


def test_rows_of_a_mask_keep_their_tags() -> None:
    """Rows that are taken out take everything with them."""
    rows = tagged(unit(N))
    taken = select(Rows(rows.keys_NE, rows, torch.arange(N).float()), torch.arange(N) % 3 == 1)
    number = torch.arange(1, N, 3)
    assert torch.equal(taken.keys_NE, rows.keys_NE[number])
    assert taken.bias_N is not None and torch.equal(taken.bias_N, number.float())
    assert taken.chunk.label_N is not None and torch.equal(taken.chunk.label_N, number % 4 - 1)


EAGER = [(by, metric, False) for by in HIDES for metric in METRICS]
# Tracing takes seconds, so two cases do for it.
TRACED = [("all", "l2", True), ("times", "dot", True)]


@pytest.mark.parametrize(("by", "metric", "compiled"), [*EAGER, *TRACED])
def test_flex_attention_is_the_definition(
    monkeypatch: pytest.MonkeyPatch, by: str, metric: Metric, compiled: bool
) -> None:
    """Value, gradient, counts; on the host, and as the compiler sees it (chunks of two sizes)."""
    traced = torch.compile(flex.attend_flex, backend="aot_eager") if compiled else flex.attend_flex
    monkeypatch.setattr(passes, "attend_on_host", traced)
    q, rows = unit(B, seed=1).requires_grad_(), tagged(unit(N))
    gone = hidden(rows, HIDES[by], B)
    expected = define(q, rows.keys_NE, 5.0, gone, metric)
    (gradient,) = torch.autograd.grad(expected.sum(), q)
    lse, count = log_sum_exp(q, pieces(rows, 32), 5.0, HIDES[by], metric)
    (found,) = torch.autograd.grad(lse.sum(), q)
    torch.testing.assert_close(lse, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)
    assert torch.equal(count.long(), (~gone).sum(1))


def test_flex_attention_where_nothing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For some queries and for all; what is not valid may be NaN; a window is no constant."""
    monkeypatch.setattr(passes, "attend_on_host", torch.compile(flex.attend_flex, backend="aot_eager"))
    keys = unit(N).masked_fill((torch.arange(N) >= 20)[:, None], torch.nan)
    rows = tagged(keys)._replace(valid_N=torch.arange(N) < 20)
    for window in (0.0, 0.3, 0.4):
        q, hide = unit(B, seed=1).requires_grad_(), asking()._replace(window=window)
        lse, count = log_sum_exp(q, [rows], 5.0, hide)
        lse.sum().backward()
        torch.testing.assert_close(lse, define(q, keys, 5.0, hidden(rows, hide, B)).float())
        assert q.grad is not None and bool(q.grad.isfinite().all()) and bool(count.any()) == (window > 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("attend", [attend_masked, flex.attend_flex])
def test_an_accelerator_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, attend: Any, metric: Metric
) -> None:
    """No number is read, no size depends on a value."""
    monkeypatch.setattr(passes, "on_host", lambda tensor: False)
    monkeypatch.setattr(passes, "attend_masked", attend)
    q, rows = unit(B, seed=1).requires_grad_(), tagged(unit(N))
    if attend is flex.attend_flex:  # traced by itself outside; only what surrounds it is watched
        monkeypatch.setattr(flex, "_with_log_sum_exp", _plainly)
    with no_host_synchronisation():
        log_sum_exp(q, pieces(rows, 32), 5.0, asking(), metric).lse_B.sum().backward()


def _plainly(_: Any, q: Tensor, keys: Tensor, __: Any) -> tuple[Tensor, Tensor]:
    logits = q @ keys.mT
    return logits.softmax(-1) @ keys, logits.logsumexp(-1)


def test_flex_attention_is_for_cuda_and_widths_it_takes() -> None:
    """Elsewhere rows are masked."""
    assert not flex.usable(unit(B, 32))
    assert rows_at_once(CPU) * 256 * 4 <= 16 * 2**20 < rows_at_once(torch.device("cuda")) * 256 * 4


@pytest.mark.gpu
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("by", HIDES)
@pytest.mark.parametrize("width", [24, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda(by: str, metric: Metric, width: int, dtype: torch.dtype) -> None:
    """The compiled kernel (widths 64 and 128) and masks (24) against the definition."""
    device = torch.device("cuda")
    rows = tagged(unit(5000, width).to(dtype))
    q, hide = unit(B, width, seed=1).to(device).requires_grad_(), HIDES[by]
    assert flex.usable(q) == (width != 24)
    gone = hidden(rows, hide, B)
    there = Chunk(*(None if field is None else field.to(device) for field in rows))  # type: ignore[arg-type]
    asked = Hide(*(None if part is None else part.to(device) for part in hide[:3]), window=hide.window)
    expected = define(q.cpu(), rows.keys_NE, 5.0, gone, metric).to(device)
    (gradient,) = torch.autograd.grad(expected.sum(), q)
    lse, count = log_sum_exp(q, pieces(there, 2048), 5.0, asked, metric)
    (found,) = torch.autograd.grad(lse.sum(), q)
    torch.testing.assert_close(lse, expected.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4)
    assert torch.equal(count.long().cpu(), (~gone).sum(1))
