"""Affine paths: endpoints, targets, conversions, token times. SiT's published scalars are the oracle."""

import math

import pytest
import torch
from torch import Tensor

from genmem.contracts import Coefficients, Conditioning, Prediction, Times
from genmem.paths import AffineFields, AffinePath, spread


class LinearPath(AffinePath):
    def coefficients(self, t: Tensor, /) -> Coefficients:
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)


class CosinePath(AffinePath):
    def coefficients(self, t: Tensor, /) -> Coefficients:
        angle = t * math.pi / 2
        cos, sin = angle.cos(), angle.sin()
        return Coefficients(cos, sin, -math.pi / 2 * sin, math.pi / 2 * cos)


class VariancePreservingPath(AffinePath):
    """SiT's β schedule, 0.1 to 20."""

    def coefficients(self, t: Tensor, /) -> Coefficients:
        log_alpha = -0.25 * t**2 * 19.9 - 0.05 * t
        slope = -0.5 * t * 19.9 - 0.05
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        return Coefficients(alpha, sigma, slope * alpha, -slope * alpha**2 / sigma)


PATHS = [LinearPath(), CosinePath(), VariancePreservingPath()]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def sample(batch: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, batch, 3, 4, 6, generator=generator, dtype=torch.float64))


@every_path
def test_endpoints(path):
    x, noise = sample()
    torch.testing.assert_close(path.mix(x, noise, torch.zeros(5, dtype=torch.float64)), x)
    rest = path.coefficients(torch.ones(1, dtype=torch.float64)).alpha
    expected = rest * x + (1 - rest**2).sqrt() * noise
    torch.testing.assert_close(path.mix(x, noise, torch.ones(5, dtype=torch.float64)), expected)
    assert rest < (7e-3 if isinstance(path, VariancePreservingPath) else 1e-15)


@every_path
@pytest.mark.parametrize("tokens", [None, 6, 24])
def test_target_is_the_derivative_of_the_mix(path, tokens):
    x, noise = sample()
    shape = (5,) if tokens is None else (5, tokens)
    t = 0.05 + 0.9 * torch.rand(shape, dtype=torch.float64)
    h = 1e-5
    slope = (path.mix(x, noise, t + h) - path.mix(x, noise, t - h)) / (2 * h)
    torch.testing.assert_close(path.target(x, noise, t), slope, atol=1e-7, rtol=1e-7)


@every_path
@pytest.mark.parametrize("tokens", [None, 6])
def test_conversions_round_trip(path, tokens):
    x, noise = sample()
    shape = (5,) if tokens is None else (5, tokens)
    t = 0.02 + 0.96 * torch.rand(shape, dtype=torch.float64)
    x_t = path.mix(x, noise, t)
    fields = path.fields(path.target(x, noise, t), x_t, t)
    sigma = path.coefficients(spread(t, x)).sigma
    torch.testing.assert_close(fields.noise, noise, atol=1e-9, rtol=0)
    torch.testing.assert_close(fields.data, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(fields.score, -noise / sigma, atol=1e-7, rtol=0)
    assert fields.variance is None


def test_conversions_hold_at_both_ends():
    """Of the linear path: only the score is infinite, at t = 0."""
    x, noise = sample()
    path = LinearPath()
    for t in (torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)):
        fields = path.fields(noise - x, path.mix(x, noise, t), t)
        torch.testing.assert_close(fields.noise, noise)
        torch.testing.assert_close(fields.data, x)
        assert fields.score.isinf().all() == (t[0] == 0)


# At SiT's t = 0.3, which is our 0.7: α, σ, and their derivatives in SiT's time; then the score for
# velocity 2 at x = 1, and the velocity for score 2 at x = 1, in SiT's time.
SIT = {
    LinearPath: (0.3, 0.7, 1.0, -1.0, -0.571429, 8.0),
    CosinePath: (0.4539905, 0.8910065, 1.3995898, -0.7131266, -0.3512520, 9.2485841),
    VariancePreservingPath: (0.0843526, 0.9964360, 0.5917333, -0.0500928, -0.7148967, 21.045),
}


@every_path
def test_published_scalars(path):
    """Our time runs the other way, so derivatives and velocities change sign."""
    alpha, sigma, d_alpha, d_sigma, score, velocity = SIT[type(path)]
    t = torch.tensor([0.7], dtype=torch.float64)
    ours = path.coefficients(t)
    for value, expected in zip(ours, (alpha, sigma, -d_alpha, -d_sigma), strict=True):
        assert value.item() == pytest.approx(expected, rel=1e-5)
    one = torch.ones(1, dtype=torch.float64)
    assert AffineFields(-2 * one, one, ours).score.item() == pytest.approx(score, rel=1e-5)
    assert AffineFields(-velocity * one, one, ours).score.item() == pytest.approx(2.0, rel=1e-5)


@every_path
def test_score_of_gaussian_data(path):
    """x ~ N(0, s²): with V = α²s² + σ², the score is -x_t / V and E[x|x_t] = α s² x_t / V."""
    s, t = 0.6, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    x_t = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    alpha, sigma, d_alpha, d_sigma = path.coefficients(t)
    variance = alpha**2 * s**2 + sigma**2
    velocity = (alpha * d_alpha * s**2 + sigma * d_sigma) / variance * x_t
    fields = path.fields(velocity, x_t, t)
    torch.testing.assert_close(fields.score, -x_t / variance)
    torch.testing.assert_close(fields.data, alpha * s**2 / variance * x_t)


def test_token_times_lie_on_their_patches():
    like = torch.zeros(1, 3, 4, 6)
    t = torch.arange(6.0).view(1, 6)
    expected = torch.tensor([[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2, dtype=torch.float32)
    assert torch.equal(spread(t, like), expected.view(1, 1, 4, 6))


@pytest.mark.parametrize("tokens", [1, 5, 7, 12, 48])
def test_token_times_that_fit_no_grid_are_refused(tokens):
    with pytest.raises(ValueError, match=f"{tokens} token times fit no grid of square patches on 4 x 6"):
        spread(torch.zeros(1, tokens), torch.zeros(1, 3, 4, 6))


@every_path
def test_regression(path):
    """One prediction, at (x_t, t); the mean of squares over each sample's elements."""
    x, noise = sample()
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    cond = Conditioning(label_B=torch.arange(5))
    asked = []

    def predict(x_t: Tensor, t: Tensor, cond: Conditioning) -> Prediction:
        asked.append((x_t, t, cond))
        offset = torch.arange(5.0, dtype=torch.float64).view(5, 1, 1, 1)
        return Prediction(path.target(x, noise, t) + offset, {})

    regression = path.regress(predict, x, noise, Times(t), cond)
    ((x_t, at, given),) = asked
    assert at is t and given is cond
    torch.testing.assert_close(x_t, path.mix(x, noise, t))
    assert torch.equal(regression.x_t, x_t)
    squares = torch.arange(5.0, dtype=torch.float64) ** 2
    torch.testing.assert_close(regression.loss_B, squares, atol=1e-12, rtol=1e-12)


def test_regression_is_fp32_where_the_output_is_not():
    x = torch.zeros(2, 1, 2, 2)
    output = torch.full_like(x, 1.0078125).bfloat16()
    regression = LinearPath().regress(
        lambda *_: Prediction(output, {}), x, torch.zeros_like(x), Times(torch.rand(2)), Conditioning()
    )
    assert torch.equal(regression.loss_B, torch.full((2,), 1.0078125**2))
