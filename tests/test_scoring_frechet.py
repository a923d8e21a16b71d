"""The Fréchet distance against independent formulas, closed forms, invariances and torch-fidelity.

Shapes: N rows, D width.
"""

import numpy as np
import pytest
import scipy.linalg
import torch

from genmem.scoring.fidelity import fidelity
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.moments import Moments, Statistics


def rows(count: int, width: int, seed: int, kind: str = "plain") -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, dtype=torch.float64, generator=generator)
    if kind == "decaying":
        return x * torch.arange(1, width + 1).double() ** -1.5 + 0.3
    return x * (1 + 0.1 * seed) + 0.2 * seed


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return frechet(Moments.of(x), Moments.of(y))


def nuclear_norm_form(x: torch.Tensor, y: torch.Tensor) -> float:
    """From the features themselves: tr (Σ₁ Σ₂)^½ = ‖Xc Ycᵀ‖_* / sqrt((n - 1)(m - 1))."""
    a, b = (z.numpy() - z.numpy().mean(0) for z in (x, y))
    a, b = a / np.sqrt(len(a) - 1), b / np.sqrt(len(b) - 1)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    apart = ((x.numpy().mean(0) - y.numpy().mean(0)) ** 2).sum()
    return float(apart + (a**2).sum() + (b**2).sum() - 2 * cross)


@pytest.mark.parametrize("kind", ["plain", "decaying"])
@pytest.mark.parametrize(
    "n, m, width", [(300, 200, 32), (33, 500, 32), (20, 25, 96), (40, 90, 96), (2, 3, 64)]
)
def test_equals_the_nuclear_norm_oracle(n: int, m: int, width: int, kind: str) -> None:
    x, y = rows(n, width, 1, kind), rows(m, width, 2, kind)
    assert distance(x, y) == pytest.approx(nuclear_norm_form(x, y), rel=1e-6)


def test_equals_scipy_square_root() -> None:
    x, y = rows(200, 24, 1).numpy(), rows(150, 24, 3).numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert distance(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n, m, width", [(400, 300, 48), (30, 40, 48)])
def test_equals_torch_fidelity_on_the_same_features(n: int, m: int, width: int) -> None:
    metric = fidelity("metric_fid")
    x, y = rows(n, width, 1), rows(m, width, 2)
    statistics = [metric.fid_features_to_statistics(z) for z in (x, y)]
    theirs = metric.fid_statistics_to_metric(*statistics, False)[metric.KEY_METRIC_FID]
    assert distance(x, y) == pytest.approx(theirs, rel=1e-6)


def moments(mean: list[float], covariance: list[list[float]], count: int = 11) -> Moments:
    sigma = torch.tensor(covariance, dtype=torch.float64)
    return Moments(count, torch.tensor(mean, dtype=torch.float64), sigma * (count - 1))


def test_closed_form_of_diagonal_gaussians() -> None:
    """Σ (μ - ν)² + Σ (σ - τ)²."""
    a = moments([0.0, 1.0], [[4.0, 0.0], [0.0, 9.0]])
    b = moments([3.0, -1.0], [[1.0, 0.0], [0.0, 25.0]], count=7)
    assert frechet(a, b) == pytest.approx(9 + 4 + 1 + 4, rel=1e-14)


def test_closed_form_where_one_has_no_spread() -> None:
    a, point = moments([1.0, 1.0], [[2.0, 1.0], [1.0, 3.0]]), moments([0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])
    assert frechet(a, point) == pytest.approx(2 + 5, rel=1e-14)


def test_of_itself_is_nothing_and_of_two_is_symmetric() -> None:
    for n in (200, 20):
        x, y = rows(n, 64, 1), rows(n + 5, 64, 2)
        assert distance(x, x) == pytest.approx(0, abs=1e-9)
        assert distance(x, x) >= 0
        assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-12)


def test_does_not_see_a_rotation_or_a_common_shift_and_scales_by_the_square() -> None:
    x, y = rows(60, 16, 1), rows(70, 16, 2)
    turn = torch.linalg.qr(rows(16, 16, 5)).Q
    shift = torch.arange(16).double() * 10
    expected = distance(x, y)
    assert distance(x @ turn, y @ turn) == pytest.approx(expected, rel=1e-10)
    assert distance(x + shift, y + shift) == pytest.approx(expected, rel=1e-9)
    assert distance(3 * x, 3 * y) == pytest.approx(9 * expected, rel=1e-12)


def test_a_shift_of_one_adds_its_square() -> None:
    x = rows(60, 16, 1)
    assert distance(x, x + 0.5) == pytest.approx(16 * 0.25, rel=1e-9)


def test_falls_with_the_number_of_samples() -> None:
    """Why a protocol fixes the count: the bias of few samples is real and must not be hidden."""
    reference = Moments.of(rows(4000, 32, 0))
    few, many = (frechet(Moments.of(rows(n, 32, 0)[-n:].flip(0)), reference) for n in (64, 1024))
    assert few > 4 * many


def test_refused_by_name() -> None:
    x = Moments.of(rows(5, 4, 1))
    with pytest.raises(ValueError, match="width 4 and of width 3"):
        frechet(x, Moments.of(rows(5, 3, 1)))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        frechet(x, Moments.of(rows(1, 4, 1)))
    with pytest.raises(ValueError, match="no covariance: its negative eigenvalues sum to -10"):
        frechet(x, moments([0.0] * 4, torch.diag(torch.tensor([1.0, 2.0, -10.0, 3.0])).tolist()))


def test_the_fidelity_entry_is_one_module() -> None:
    assert fidelity() is fidelity()
    assert callable(fidelity().calculate_metrics)


def test_statistics_of_a_file_are_those_of_the_rows() -> None:
    x, y = (Moments.of(rows(n, 12, n)) for n in (40, 50))
    of_file = Statistics(x.mean_D.float().double(), x.covariance().float().double())
    assert frechet(of_file, y) == pytest.approx(frechet(x, y), rel=1e-5)
    assert frechet(Statistics(x.mean_D, x.covariance()), y) == frechet(x, y)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (torch.zeros(3), torch.eye(4), r"\(3,\) and \(4, 4\)"),
        (torch.zeros(3), torch.eye(3) * torch.nan, "not finite"),
        (
            torch.zeros(2),
            torch.tensor([[1.0, 0.5], [0.4, 1.0]]),
            "not symmetric: .* by up to 0.1",
        ),
    ],
)
def test_statistics_that_are_none_are_refused(mean, covariance, message) -> None:
    with pytest.raises(ValueError, match=message):
        Statistics(mean.double(), covariance.double())
