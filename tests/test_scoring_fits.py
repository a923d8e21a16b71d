"""What is fitted to training pictures: the classifier, the Gaussian, the linear decode.

Shapes: N rows, D width of features, E width of memory rows.
"""

import numpy as np
import pytest
import torch

from genmem.draws import Draws
from genmem.scoring import classifier, gaussian, linear
from genmem.scoring.moments import Moments


def rows(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator)


def rings(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy circles of radius 1 and 2 about one centre: no linear rule parts them."""
    labels = torch.arange(count) % 2
    direction = torch.nn.functional.normalize(rows(count, 2, seed), dim=1)
    return direction * (1 + labels[:, None]) + 0.1 * rows(count, 2, seed + 1), labels


# classifier --------------------------------------------------------------------------------


def test_classifier_equals_kernel_ridge_written_out() -> None:
    x, labels = rows(31, 4).numpy(), np.arange(31) % 3
    query = rows(8, 4, seed=1).numpy()
    found = classifier.fit(x, labels, 3)
    pairs = [np.linalg.norm(x[i] - x[j]) for i in range(31) for j in range(i)]
    bandwidth = sorted(pairs)[(len(pairs) - 1) // 2]
    assert found.bandwidth == pytest.approx(bandwidth, rel=1e-12)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-(np.linalg.norm(a[:, None] - b[None], axis=2) ** 2) / (2 * bandwidth**2))

    target = np.eye(3)[labels]
    weights = np.linalg.inv(kernel(x, x) + 1e-3 * np.eye(31)) @ (target - target.mean(0))
    expected = kernel(query, x) @ weights + target.mean(0)
    assert np.allclose(found.scores(query), expected, rtol=0, atol=1e-9)
    assert found.predict(query).tolist() == expected.argmax(1).tolist()


def test_classifier_parts_what_no_line_parts() -> None:
    found = classifier.fit(*rings(400, 0), 2)
    assert found.accuracy(*rings(400, 10)) > 0.98


def test_accuracy_is_the_share_of_agreement() -> None:
    found = classifier.fit(*rings(100, 0), 2)
    x, labels = rings(50, 10)
    predicted = found.predict(x)
    assert found.accuracy(x, predicted) == 1.0
    assert found.accuracy(x, 1 - predicted) == 0.0
    assert found.accuracy(x, labels.numpy()) == pytest.approx((predicted == labels).double().mean().item())


def test_many_rows_are_thinned_by_class_and_without_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "MAX_ROWS", 40)
    x, labels = rows(400), (torch.arange(400) % 4 == 0).long()
    first, again = classifier.fit(x, labels, 2), classifier.fit(x, labels, 2)
    assert len(first.rows_ND) == 40
    assert torch.equal(first.rows_ND, again.rows_ND)
    kept = {tuple(row.tolist()) for row in first.rows_ND}
    of_class_1 = sum(tuple(row.tolist()) in kept for row in x[labels == 1])
    assert of_class_1 == 10


def test_classifier_does_not_see_a_rotation_a_shift_or_a_scale() -> None:
    x, labels = rows(60), torch.arange(60) % 3
    query = rows(20, seed=1)
    turn = torch.linalg.qr(rows(5, seed=7)).Q
    plain = classifier.fit(x, labels, 3).scores(query)
    moved = classifier.fit(4 * x @ turn + 3, labels, 3).scores(4 * query @ turn + 3)
    assert torch.allclose(plain, moved, atol=1e-8)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.arange(10) % 3 - 1, ValueError, r"labels must be in 0 … 2, got -1 … 1"),
        (torch.arange(10) % 4, ValueError, r"labels must be in 0 … 2, got 0 … 3"),
        (torch.arange(10) % 2, ValueError, r"class 2 has no training row \(1 of 3 classes have none\)"),
        (torch.arange(9) % 3, ValueError, r"labels must be \(10,\), one for each row, got shape \(9,\)"),
        (torch.arange(10) % 3.0, TypeError, "labels must be integers, got torch.float32"),
    ],
)
def test_classifier_refuses_labels_by_name(
    labels: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        classifier.fit(rows(10), labels, 3)


def test_classifier_refuses_features_by_name() -> None:
    labels = torch.arange(10) % 2
    with pytest.raises(ValueError, match="do not vary"):
        classifier.fit(torch.ones(10, 5), labels, 2)
    with pytest.raises(ValueError, match="training features: 10 of 10 rows are not finite"):
        classifier.fit(rows(10) * torch.nan, labels, 2)
    with pytest.raises(ValueError, match="features of width 4 where width 5"):
        classifier.fit(rows(10), labels, 2).predict(rows(3, 4))


# Gaussian ----------------------------------------------------------------------------------


def test_gaussian_has_the_mean_and_the_covariance() -> None:
    """Its draws are mean + z · root, so its covariance is root², exactly."""
    moments = Moments.of(rows(50) @ rows(5, seed=3) + 2)
    found = gaussian.fit(moments)
    assert torch.equal(found.mean_D, moments.mean_D)
    assert torch.allclose(found.root_DD @ found.root_DD, moments.covariance(), rtol=1e-10, atol=1e-12)
    assert torch.allclose(found.root_DD, found.root_DD.T, atol=1e-12)
    draws = Draws(0, torch.arange(3))
    expected = moments.mean_D + draws.normal("gaussian", (5,)).double() @ found.root_DD
    assert torch.allclose(found.draw(draws), expected, rtol=1e-12)


def test_gaussian_of_fewer_rows_than_values_stays_in_their_span() -> None:
    x = rows(4, 30)
    drawn = gaussian.fit(Moments.of(x)).draw(Draws(0, torch.arange(20))) - x.mean(0)
    span = torch.linalg.qr((x - x.mean(0)).T).Q[:, :3]
    assert torch.allclose(drawn @ span @ span.T, drawn, atol=1e-6)


def draw_pictures(train: np.ndarray, draws: Draws) -> np.ndarray:
    return gaussian.fit_pictures(train).pictures(draws, train.shape[1:])


def pictures(count: int = 300, channels: int = 1) -> np.ndarray:
    ramp = np.linspace(0, 255, 4 * 4 * channels).reshape(1, 4, 4, channels)
    noise = rows(count, 16 * channels).numpy().reshape(-1, 4, 4, channels) * 40
    return (ramp + noise).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_pictures(channels: int) -> None:
    train = pictures(channels=channels)
    drawn = draw_pictures(train, Draws(0, torch.arange(4000)))
    assert drawn.dtype == np.uint8 and drawn.shape == (4000, 4, 4, channels)
    middle = np.abs(train.mean(0) - 127) < 60
    assert np.allclose(drawn.mean(0)[middle], train.mean(0)[middle], atol=3.0)
    assert np.allclose(drawn.std(0)[middle], train.std(0)[middle], rtol=0.1)
    assert drawn.min() == 0 and drawn.max() == 255


def test_gaussian_pictures_are_the_draws_clamped_and_rounded() -> None:
    train, draws = pictures(), Draws(3, torch.arange(50))
    values = gaussian.fit(Moments.of(train.reshape(300, 16).astype(np.float64))).draw(draws).numpy()
    assert values.min() < -0.5 and values.max() > 255.5
    expected = np.rint(values.clip(0, 255)).astype(np.uint8).reshape(50, 4, 4, 1)
    assert np.array_equal(draw_pictures(train, draws), expected)


def test_gaussian_pictures_depend_on_seed_and_number_alone() -> None:
    train = pictures()
    whole = draw_pictures(train, Draws(0, torch.arange(10)))
    part = draw_pictures(train, Draws(0, torch.tensor([7, 2])))
    assert np.array_equal(part, whole[[7, 2]])
    assert not np.array_equal(draw_pictures(train, Draws(1, torch.arange(10))), whole)


def test_gaussian_refuses_by_name() -> None:
    with pytest.raises(TypeError, match="pictures must be uint8, got float32"):
        gaussian.fit_pictures(pictures().astype(np.float32))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        gaussian.fit_pictures(pictures()[:1])
    with pytest.raises(ValueError, match="covariance of 12288 × 12288; at most 8192"):
        gaussian.fit_pictures(np.zeros((3, 64, 64, 3), np.uint8))


# linear decode -----------------------------------------------------------------------------


def test_linear_decode_finds_an_affine_map() -> None:
    x, weight = rows(40, 6), rows(6, 12, seed=1)
    samples = (x @ weight + 3).reshape(40, 3, 2, 2)
    found = linear.fit(x, samples)
    new = rows(9, 6, seed=2)
    assert found.decode(new).shape == (9, 3, 2, 2)
    assert torch.allclose(found.decode(new), (new @ weight + 3).reshape(9, 3, 2, 2), atol=1e-10)


def test_linear_decode_equals_least_squares_with_a_column_of_ones() -> None:
    x, samples = rows(40, 6), rows(40, 8, seed=1)
    weights = np.linalg.lstsq(np.c_[x.numpy(), np.ones(40)], samples.numpy(), rcond=None)[0]
    new = rows(9, 6, seed=2).numpy()
    assert np.allclose(linear.fit(x, samples).decode(new), np.c_[new, np.ones(9)] @ weights, atol=1e-10)


def test_what_linear_decode_leaves_is_uncorrelated_with_the_rows() -> None:
    x, samples = rows(40, 6), rows(40, 8, seed=1)
    left = samples - linear.fit(x, samples).decode(x)
    assert torch.allclose(left.mean(0), torch.zeros(8).double(), atol=1e-12)
    assert torch.allclose(x.T @ left, torch.zeros(6, 8).double(), atol=1e-10)


def test_linear_decode_of_redundant_rows_is_the_smallest() -> None:
    """Two equal columns share the weight that one would have."""
    x, samples = rows(40, 3), rows(40, 2, seed=1)
    single, double = linear.fit(x, samples), linear.fit(torch.cat([x, x], 1), samples)
    assert torch.allclose(double.weight_ED, torch.cat([single.weight_ED] * 2) / 2, atol=1e-10)
    few = linear.fit(rows(4, 10), samples[:4])
    assert torch.allclose(few.decode(rows(4, 10)), samples[:4], atol=1e-10)


def test_linear_decode_takes_several_memories_a_sample() -> None:
    x, samples = rows(40, 6), rows(40, 8, seed=1)
    found = linear.fit(x.reshape(40, 2, 3), samples)
    assert torch.equal(found.decode(x.reshape(40, 2, 3)), linear.fit(x, samples).decode(x))


def test_linear_decode_refuses_by_name() -> None:
    with pytest.raises(ValueError, match="40 memory rows for 39 samples"):
        linear.fit(rows(40), rows(39))
    with pytest.raises(ValueError, match="memory rows: 1 rows, needs at least 2"):
        linear.fit(rows(1), rows(1))
    with pytest.raises(ValueError, match="samples: 40 of 40 rows are not finite"):
        linear.fit(rows(40), rows(40) * torch.nan)
    with pytest.raises(ValueError, match="memory rows: features of width 4 where width 5"):
        linear.fit(rows(40), rows(40)).decode(rows(3, 4))
