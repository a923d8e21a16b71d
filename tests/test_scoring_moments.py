"""Streamed moments: closed forms, merging, ranks, and what is refused.

Shapes: N rows, D width.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from genmem.scoring.moments import Moments


def rows(count: int, width: int = 7, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator) + offset


def test_equals_numpy_however_it_is_streamed() -> None:
    x = rows(101)
    streamed = Moments.empty(7)
    for part in x.split([1, 50, 0, 49, 1]):
        streamed.update(part)
    for moments in (Moments.of(x), streamed):
        assert moments.count == 101
        assert np.allclose(moments.mean_D, x.numpy().mean(0), rtol=0, atol=1e-14)
        assert np.allclose(moments.covariance(), np.cov(x.numpy(), rowvar=False), rtol=0, atol=1e-14)


def test_two_rows_by_hand() -> None:
    moments = Moments.of(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    assert moments.mean_D.tolist() == [2.0, 2.0]
    assert moments.covariance().tolist() == [[2.0, 4.0], [4.0, 8.0]]


def test_a_large_offset_costs_no_digits() -> None:
    """The textbook form, E[x²] - E[x]², has no digit left at this offset."""
    near, far = Moments.empty(7), Moments.empty(7)
    for part in rows(400).split(37):
        near.update(part)
        far.update(part + 2.0**30)
    assert torch.allclose(far.covariance(), near.covariance(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parts", [[101], [40, 61], [50, 0, 51], [1, 1, 99]])
def test_merging_equals_one_pass(parts: list[int]) -> None:
    x = rows(101, offset=5.0)
    merged = Moments.empty(7)
    for part in x.split(parts):
        merged = merged.merged(Moments.of(part) if len(part) else Moments.empty(7))
    whole = Moments.of(x)
    assert merged.count == 101
    assert torch.allclose(merged.mean_D, whole.mean_D, rtol=1e-13)
    assert torch.allclose(merged.m2_DD, whole.m2_DD, rtol=1e-11, atol=1e-11)


def test_merging_changes_neither() -> None:
    a, b = Moments.of(rows(5)), Moments.of(rows(6, seed=1))
    kept = a.mean_D.clone(), a.m2_DD.clone(), b.mean_D.clone(), b.m2_DD.clone()
    a.merged(b)
    assert all(torch.equal(x, y) for x, y in zip(kept, (a.mean_D, a.m2_DD, b.mean_D, b.m2_DD), strict=True))
    assert (a.count, b.count) == (5, 6)


def reduce_on_ranks(parts: list[Moments]) -> list[Moments]:
    """`reduced` in one thread a rank, with an all-reduce between them."""
    barrier, sent = Barrier(len(parts)), [torch.empty(0)] * len(parts)

    def run(rank: int) -> Moments:
        def add(tensor: torch.Tensor) -> torch.Tensor:
            sent[rank] = tensor
            barrier.wait(10)
            total = torch.stack(sent).sum(0)
            barrier.wait(10)
            return total

        return parts[rank].reduced(add)

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, range(len(parts))))


@pytest.mark.parametrize("parts", [[101], [40, 61], [50, 0, 51]])
def test_ranks_agree_with_one_process(parts: list[int]) -> None:
    x = rows(101, offset=100.0)
    of_ranks = [Moments.of(part) if len(part) else Moments.empty(7) for part in x.split(parts)]
    whole = Moments.of(x)
    for reduced in reduce_on_ranks(of_ranks):
        assert reduced.count == 101
        assert torch.allclose(reduced.mean_D, whole.mean_D, rtol=1e-13)
        assert torch.allclose(reduced.covariance(), whole.covariance(), rtol=1e-10, atol=1e-11)


def test_half_precision_is_summed_in_float64() -> None:
    x = rows(300, offset=30.0).half()
    assert torch.allclose(Moments.of(x).covariance(), torch.cov(x.double().T), rtol=1e-12, atol=1e-13)
    assert Moments.of(x.numpy()).mean_D.dtype == torch.float64


def test_nothing_is_taken_in_where_a_row_is_refused() -> None:
    moments = Moments.of(rows(5))
    before = moments.m2_DD.clone()
    bad = rows(4)
    bad[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"samples: 1 of 4 rows are not finite, the first is row 2"):
        moments.update(bad, name="samples")
    assert moments.count == 5 and torch.equal(moments.m2_DD, before)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (rows(4, width=6), ValueError, "features of width 6 where width 7 is expected"),
        (rows(7)[0], ValueError, r"features must be \(N, D\), got shape \(7,\)"),
        (torch.zeros(3, 7, dtype=torch.uint8), TypeError, "must be floating-point, got torch.uint8"),
        (np.zeros((3, 7), np.int64), TypeError, "must be floating-point, got torch.int64"),
        (np.full((3, 7), np.inf), ValueError, "3 of 3 rows are not finite"),
        ([[0.0] * 7], TypeError, "must be an array or a tensor, got list"),
    ],
)
def test_refused_by_name(features: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Moments.empty(7).update(features)


@pytest.mark.parametrize("count", [0, 1])
def test_no_covariance_of_fewer_than_two_rows(count: int) -> None:
    moments = Moments.empty(7)
    moments.update(rows(count))
    with pytest.raises(ValueError, match=f"at least 2 rows, got {count}"):
        moments.covariance()


def test_moments_of_another_width_do_not_merge() -> None:
    with pytest.raises(ValueError, match="width 6 cannot be merged into width 7"):
        Moments.of(rows(3)).merged(Moments.of(rows(3, width=6)))


def test_moments_from_elsewhere_must_be_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Moments(5, torch.zeros(2).double(), torch.full((2, 2), torch.nan).double()).covariance()
