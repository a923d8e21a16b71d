"""KID, Inception Score, precision and recall: loops over pairs, closed forms, torch-fidelity.

Shapes: N and M rows, D width, C classes.
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from genmem.scoring.fidelity import fidelity
from genmem.scoring.metrics.inception_score import SplitSums
from genmem.scoring.metrics.kernel import kernel_distance
from genmem.scoring.metrics.manifolds import precision_recall


def rows(count: int, width: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator) + shift


# KID --------------------------------------------------------------------------------------------


def test_kid_is_the_mean_over_pairs() -> None:
    """One subset of all rows: no draw enters but their order."""
    x, y = rows(7, 3).numpy(), rows(7, 3, 1, 0.4).numpy()
    kernel = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(a, b) for a, b in combinations(z, 2)]) for z in (x, y)]
    expected = sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    found = kernel_distance(x, y, subset=7, subsets=1)
    assert found.mean == pytest.approx(expected, rel=1e-12)
    assert found.deviation == 0


def test_kid_equals_torch_fidelity() -> None:
    x, y = rows(70, 12), rows(90, 12, 1, 0.2)
    expected = fidelity("metric_kid").kid_features_to_metric(
        x, y, kid_subsets=5, kid_subset_size=40, rng_seed=2020, verbose=False
    )
    found = kernel_distance(x, y, subset=40, subsets=5)
    assert list(found) == pytest.approx(list(expected.values()), rel=1e-10)


def test_kid_has_no_bias() -> None:
    """Two halves of one distribution: zero within its spread, for however few rows."""
    pool = rows(3000, 8).float().numpy()
    found = kernel_distance(pool[:1500], pool[1500:], subset=30, subsets=400)
    assert abs(found.mean) < 4 * found.deviation / 20


# Inception Score ---------------------------------------------------------------------------------


def score_of(logits: torch.Tensor, splits: int, parts=(1.0,)):
    sums = [SplitSums.empty(len(logits), logits.shape[1], splits) for _ in parts]
    start = 0
    for one, share in zip(sums, parts, strict=True):
        stop = min(len(logits), start + round(share * len(logits)))
        for first in range(start, stop, 13):
            one.update(first, logits[first : min(first + 13, stop)])
        start = stop
    stacked = iter(
        torch.stack(part)
        for part in zip(*((s.count_S, s.chances_SC, s.certainty_S) for s in sums), strict=True)
    )
    return sums[0].reduced(lambda _: next(stacked).sum(0)).score()


@pytest.mark.parametrize(("count", "splits"), [(100, 10), (37, 5), (10, 10)])
def test_inception_score_equals_torch_fidelity_on_any_number_of_ranks(count: int, splits: int) -> None:
    logits = 3 * rows(count, 11)
    expected = list(fidelity("metric_isc").isc_features_to_metric(logits, splits=splits).values())
    for parts in ((1.0,), (0.4, 0.6), (0.3, 0.3, 0.4)):
        assert list(score_of(logits, splits, parts)) == pytest.approx(expected, rel=1e-10)


def test_inception_score_of_certain_classes_is_their_number() -> None:
    certain = 1000 * torch.eye(6, dtype=torch.float64).repeat(20, 1)
    assert score_of(certain, 1).mean == pytest.approx(6, rel=1e-12)
    assert score_of(torch.zeros(20, 6), 4).mean == pytest.approx(1, rel=1e-12)


def test_a_sample_that_never_came_is_missed() -> None:
    sums = SplitSums.empty(10, 3, 2)
    sums.update(0, torch.zeros(9, 3))
    with pytest.raises(ValueError, match="1 of 10 samples were not taken in"):
        sums.score()


# precision and recall ----------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_precision_and_recall_equal_torch_fidelity(monkeypatch, offset: float) -> None:
    """In blocks, and with an offset that costs float32 its digits."""
    monkeypatch.setattr("genmem.scoring.metrics.manifolds._BLOCK", 17)
    x, y = rows(80, 5), rows(60, 5, 1, 0.8)
    expected = fidelity("metric_prc").calculate_precision_recall_full(x, y, 3)
    assert list(precision_recall(x + offset, y + offset)) == pytest.approx(expected, rel=1e-6)
    assert 0.1 < min(expected) < max(expected) < 0.95


def test_precision_and_recall_on_a_line() -> None:
    """Reference 0, 1, 2, 3 (radius 1 and 2 for one neighbour: 1 each); samples 0.5, 2, 9, 10."""
    reference, samples = torch.arange(4.0)[:, None], torch.tensor([[0.5], [2.0], [9.0], [10.0]])
    found = precision_recall(samples, reference, k=1)
    assert found.precision == 0.5
    # Balls of the samples: 0.5 ± 1.5, 2 ± 1.5, 9 ± 1, 10 ± 1.
    assert found.recall == 1.0


# refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_distance(rows(30, 4), rows(50, 4), subset=40), "samples: 30 rows, KID draws"),
        (lambda: kernel_distance(rows(9, 4), rows(9, 5), subset=9), "width 5 where width 4"),
        (lambda: kernel_distance(rows(9, 4), rows(9, 4), subset=1), "subsets of 2 rows or more"),
        (lambda: kernel_distance(rows(9, 4), rows(9, 4) * torch.nan, subset=9), "reference: 9 of 9 rows"),
        (lambda: SplitSums.empty(9, 4, 10), "over 10 splits needs 10 samples or more, got 9"),
        (lambda: SplitSums.empty(9, 4, 3).update(0, rows(9, 4) / 0), "logits: 9 of 9 rows are not finite"),
        (lambda: precision_recall(rows(3, 4), rows(9, 4)), "samples: 3 rows, needs more than 3"),
        (lambda: precision_recall(rows(9, 4), rows(9, 5)), "width 4 where width 5"),
    ],
)  # fmt: skip
def test_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
