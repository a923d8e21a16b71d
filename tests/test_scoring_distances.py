"""Energy distance and nearest neighbours against loops, published identities and invariances.

Shapes: N and M rows, D width.
"""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from genmem.scoring.distances import iterate_distances
from genmem.scoring.metrics.energy import energy_distance
from genmem.scoring.neighbours import copy_rate, nearest


def rows(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator)


def mean_distance(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    return sum(math.dist(a.tolist(), b.tolist()) for a, b in pairs) / len(pairs)


def test_blocks_join_to_all_distances_in_order() -> None:
    x, y = rows(23), rows(9, seed=1)
    blocks = list(iterate_distances(x, y, block=30))
    assert [start for start, _ in blocks] == [0, 3, 6, 9, 12, 15, 18, 21]
    expected = (x[:, None] - y[None]).norm(dim=2)
    assert torch.allclose(torch.cat([block for _, block in blocks]), expected, rtol=1e-12)


def test_energy_by_hand() -> None:
    """2·(5 + 5 + 3 + 3)/4 - 2 - 0."""
    assert energy_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0]])) == pytest.approx(6.0)


def test_energy_equals_loops_over_pairs() -> None:
    x, y = rows(12), rows(9, seed=1) + 0.5
    between = mean_distance([(a, b) for a in x for b in y])
    within = [
        mean_distance([(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]) for z in (x, y)
    ]
    assert energy_distance(x, y) == pytest.approx(2 * between - sum(within), rel=1e-12)


def test_energy_leaves_the_row_itself_out_in_every_block() -> None:
    """2,100 rows take two blocks; rows on a line have their mean distance in closed form."""
    line = torch.arange(2100.0)[:, None] + 1e6
    far = line[:2] + 1e5
    within = (2100 + 1) / 3
    between = 1e5 + 0.5 - (2100 - 1) / 2
    assert energy_distance(line, far) == pytest.approx(2 * between - within - 1, rel=1e-9)


def test_energy_is_cramers_distance_on_a_line() -> None:
    """With the row itself kept in, it is 2 ∫ (F - G)² (Székely); scipy gives its root."""
    x, y = rows(40, 1), rows(30, 1, seed=1) * 2
    within_x, within_y = ((z - z.T).abs().sum().item() / (len(z) * (len(z) - 1)) for z in (x, y))
    kept_in = energy_distance(x, y) + within_x / len(x) + within_y / len(y)
    expected = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert kept_in == pytest.approx(expected, rel=1e-10)


def test_energy_has_no_bias_at_few_samples() -> None:
    """The V-statistic would be off by 2 E|X - X'| / 10, about 0.6."""
    values = [energy_distance(rows(10, seed=2 * i), rows(10, seed=2 * i + 1)) for i in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300) < 0.06


def test_energy_sees_no_rotation_or_shift_and_scales_as_a_length() -> None:
    x, y = rows(30), rows(20, seed=1) + 1
    turn, shift = torch.linalg.qr(rows(5, seed=7)).Q, torch.arange(5).double() * 100
    expected = energy_distance(x, y)
    assert energy_distance(y, x) == pytest.approx(expected, rel=1e-12)
    assert energy_distance(x @ turn + shift, y @ turn + shift) == pytest.approx(expected, rel=1e-9)
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * expected, rel=1e-12)


def test_energy_refuses_by_name() -> None:
    x = rows(4)
    with pytest.raises(ValueError, match="y: 1 rows, needs at least 2"):
        energy_distance(x, x[:1])
    with pytest.raises(ValueError, match="y: features of width 4 where width 5 is expected"):
        energy_distance(x, x[:, :4])
    with pytest.raises(ValueError, match="x: 4 of 4 rows are not finite"):
        energy_distance(x * torch.nan, x)
    with pytest.raises(TypeError, match=r"x: features must be floating-point, got torch\.uint8"):
        energy_distance(torch.zeros(4, 5, dtype=torch.uint8), x)


def test_nearest_equals_a_search_through_all() -> None:
    query, reference = rows(50), rows(70, seed=1)
    distances, numbers = nearest(query, reference, 3)
    every = (query[:, None] - reference[None]).norm(dim=2)
    expected, order = every.sort(dim=1)
    assert torch.equal(numbers, order[:, :3])
    assert torch.allclose(distances, expected[:, :3], rtol=1e-14)


def test_nearest_of_many_blocks() -> None:
    """Two blocks of query rows: each row's nearest is itself, moved."""
    reference = rows(2100)
    distances, numbers = nearest(reference + 1e-6, reference)
    assert torch.equal(numbers[:, 0], torch.arange(2100))
    assert torch.allclose(distances, torch.full((2100, 1), 1e-6 * math.sqrt(5)).double(), rtol=1e-6)


def test_a_copy_is_at_distance_zero_however_far_from_the_origin() -> None:
    """By |q|² + |r|² - 2 q·r it would be at a distance of about 1."""
    reference = rows(40, 64) + 1e8
    distances, numbers = nearest(reference.flip(0), reference)
    assert torch.equal(distances, torch.zeros(40, 1).double())
    assert torch.equal(numbers[:, 0], torch.arange(39, -1, -1))


def test_of_equally_near_rows_the_lower_number() -> None:
    reference = torch.tensor([[5.0], [1.0], [-1.0], [1.0], [3.0]])
    distances, numbers = nearest(torch.zeros(1, 1), reference, 4)
    assert numbers.tolist() == [[1, 2, 3, 4]]
    assert distances.tolist() == [[1.0, 1.0, 1.0, 3.0]]
    for number in range(1, 8):
        reference = torch.full((9, 1), 4.0)
        reference[number:] = -1.0
        assert nearest(torch.zeros(1, 1), reference)[1].item() == number


def test_nearest_refuses_by_name() -> None:
    with pytest.raises(ValueError, match="reference: 4 rows, needs at least 5"):
        nearest(rows(2), rows(4), 5)
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        nearest(rows(2), rows(4), 0)
    with pytest.raises(ValueError, match="query: features of width 3 where width 5"):
        nearest(rows(2, 3), rows(4))


def test_copy_rate_by_hand() -> None:
    """Held-out pictures lie 1 … 100 from training; their 10 % quantile is 10.9."""
    train = torch.arange(100.0)[:, None] * 1000
    held_out = train + torch.arange(1.0, 101.0)[:, None]
    samples = train[:5] + torch.tensor([[0.0], [5.0], [10.8], [11.0], [300.0]])
    found = copy_rate(samples, held_out, train, quantile=0.1)
    assert found.threshold == pytest.approx(10.9)
    assert found.rate == pytest.approx(3 / 5)
    assert found.sample_distance == pytest.approx((0 + 5 + 10.8 + 11 + 300) / 5, rel=1e-6)
    assert found.held_out_distance == pytest.approx(50.5)


def test_held_out_pictures_have_the_rate_of_the_quantile() -> None:
    train, held_out = rows(300), rows(1000, seed=1)
    assert copy_rate(held_out, held_out, train).rate == pytest.approx(0.01)
    assert copy_rate(train, held_out, train).rate == 1.0
    assert copy_rate(held_out + 50, held_out, train).rate == 0.0


def test_copies_count_where_held_out_pictures_have_twins() -> None:
    """The threshold is then 0, and nothing is nearer than that."""
    train = rows(200)
    held_out = torch.cat([train[:50], rows(50, seed=1)])
    assert copy_rate(train[:10], held_out, train).rate == 1.0


def test_copy_rate_refuses_by_name() -> None:
    with pytest.raises(ValueError, match=r"99 held-out pictures have no 0\.01 quantile: give 100 or more"):
        copy_rate(rows(5), rows(99), rows(50))
    with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\), got 1"):
        copy_rate(rows(5), rows(99), rows(50), quantile=1)
    with pytest.raises(ValueError, match="samples: features of width 4 where width 5"):
        copy_rate(rows(5, 4), rows(100), rows(50))
