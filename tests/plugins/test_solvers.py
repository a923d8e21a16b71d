"""Solvers on Gaussian data, where the exact velocity, solution and law are known.

Data N(0, S²) on the linear path: x_t has variance (1 - t)² S² + t², the ODE maps x to S x.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from genmem.contracts import Coefficients, SamplerConfig
from genmem.draws import Draws
from genmem.paths import AffineFields, AffinePath
from genmem.testing import check_sampler
from genmem_solvers import EulerConfig, HeunConfig, SdeEulerConfig
from genmem_solvers.grids import space_times

S = 0.5


class LinearPath(AffinePath):
    def coefficients(self, t: Tensor, /) -> Coefficients:
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)


class GaussianEvaluation:
    """The exact velocity of N(0, S²); counts how often, and notes when, it is asked."""

    def __init__(self) -> None:
        self.interpolant = LinearPath()
        self.times: list[float] = []

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> AffineFields:
        assert t_B.shape == (len(x),) and t_B.dtype == x.dtype and span_B is None
        self.times.append(t_B[0].item())
        t = t_B.view(-1, 1, 1, 1)
        variance = (1 - t) ** 2 * S**2 + t**2
        return self.interpolant.fields((t - (1 - t) * S**2) / variance * x, x, t_B)


def run(config: SamplerConfig, x: Tensor, draws: Draws | None = None) -> tuple[Tensor, GaussianEvaluation]:
    evaluate = GaussianEvaluation()
    return config.build()(evaluate, x, draws or Draws(0, torch.arange(len(x)))), evaluate


def start(rows: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return Draws(7, torch.arange(rows)).normal("start", (1, 2, 2)).to(dtype)


@pytest.mark.parametrize(("config", "order"), [(EulerConfig, 1), (HeunConfig, 2)])
@pytest.mark.parametrize("shift", [1.0, 0.5])
def test_order_of_convergence(config, order, shift):
    x = start()
    errors = [(run(config(steps=n, shift=shift), x)[0] - S * x).abs().max().item() for n in (40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)
    assert errors[-1] < (0.02 if order == 1 else 1e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_evaluations_are_counted(steps):
    for config in (EulerConfig(steps=steps), HeunConfig(steps=steps), SdeEulerConfig(steps=max(2, steps))):
        _, evaluate = run(config, start())
        assert len(evaluate.times) == config.evaluations
        assert evaluate.times[0] == 1.0 and min(evaluate.times) > 0
    assert EulerConfig(steps=steps).evaluations == steps
    assert HeunConfig(steps=steps).evaluations == 2 * steps - 1
    assert SdeEulerConfig(steps=50).evaluations == 50


def test_euler_and_heun_by_hand():
    """Two steps: at t = 1 the velocity is x, at 1/2 it is x (1/2 - S²/2) / (S²/4 + 1/4)."""
    x = start()
    slope = (0.5 - 0.5 * S**2) / (0.25 * S**2 + 0.25)
    torch.testing.assert_close(run(EulerConfig(steps=2), x)[0], x * 0.5 * (1 - 0.5 * slope))
    middle = 1 - 0.25 * (1 + 0.5 * slope)
    torch.testing.assert_close(run(HeunConfig(steps=2), x)[0], x * middle * (1 - 0.5 * slope))


# D(t) in our time, and what the SDE does to a variance in one step and at the end, independently.
DIFFUSIONS = {
    "constant": lambda t, n: n,
    "sigma": lambda t, n: n * t,
    "linear": lambda t, n: n * t,
    "decreasing": lambda t, n: 0.25 * (n * math.cos(math.pi * (1 - t)) + 1) ** 2,
    "increasing-decreasing": lambda t, n: n * math.sin(math.pi * t) ** 2,
}


def variance_after(config: SdeEulerConfig) -> float:
    """Variance of the samples of the discretised SDE, started from N(0, 1)."""
    size, total = config.last_step_size, 1.0
    delta = (1 - size) / (config.steps - 1)

    def slopes(t: float) -> tuple[float, float]:
        marginal = (1 - t) ** 2 * S**2 + t**2
        return (t - (1 - t) * S**2) / marginal, -1 / marginal

    for i in range(config.steps - 1):
        t = 1 - i * delta
        (velocity, score), d = slopes(t), DIFFUSIONS[config.diffusion](t, config.diffusion_norm)
        total = total * (1 - delta * (velocity - d * score)) ** 2 + 2 * d * delta
    (velocity, score), d = slopes(size), DIFFUSIONS[config.diffusion](size, config.diffusion_norm)
    factor = {
        "mean": 1 - size * (velocity - d * score),
        "euler": 1 - size * velocity,
        "tweedie": (1 - size) * S**2 / ((1 - size) ** 2 * S**2 + size**2),
    }
    return total * factor[config.last_step] ** 2


class UnitDraws(Draws):
    """Noise of step i is 1 in row i + 1 and 0 elsewhere."""

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        noise = torch.zeros(len(self), *shape)
        noise[int(purpose.removeprefix("sde/")) + 1] = 1
        return noise


def measure_variance(config: SdeEulerConfig) -> float:
    """Exact variance of our samples: the solver is linear in its start and in each step's noise.

    Row 0 carries the start, row i + 1 the noise of step i; their squares add up.
    """
    x = torch.zeros(config.steps, 1, 1, 1, dtype=torch.float64)
    x[0] = 1
    return run(config, x, UnitDraws(0, torch.arange(config.steps)))[0].square().sum().item()


@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie"])
def test_sde_law(diffusion, last_step):
    config = SdeEulerConfig(steps=20, diffusion=diffusion, diffusion_norm=0.8, last_step=last_step)
    assert measure_variance(config) == pytest.approx(variance_after(config), rel=1e-12)


@pytest.mark.parametrize("diffusion", DIFFUSIONS)
def test_sde_converges_to_the_data(diffusion):
    """To N(0, S²), at first order in the variance."""
    errors = [
        abs(measure_variance(SdeEulerConfig(steps=n, diffusion=diffusion, last_step_size=2 / n)) - S**2)
        for n in (100, 200, 400)
    ]
    assert errors[2] < 0.05 * S**2
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]


def test_sde_moments():
    """Mean and variance of 80,000 numbers drawn with the real draws, at SiT's defaults."""
    config = SdeEulerConfig(steps=20)
    sample, _ = run(config, start(20_000))
    expected, count = variance_after(config), sample.numel()
    assert abs(sample.mean().item()) < 4 * math.sqrt(expected / count)
    assert sample.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / count))


def test_sde_step_by_hand():
    """SiT's defaults: D = σ, so the drift is v - t s; the noise of step i is drawn as "sde/i"."""
    x, draws = start(), Draws(3, torch.arange(4))
    sample, evaluate = run(SdeEulerConfig(steps=2), x, draws)
    # At t = 1: v = x, s = -x. One step of 0.96, then 0.04 without noise.
    x = x - 0.96 * 2 * x + math.sqrt(2 * 0.96) * draws.normal("sde/0", (1, 2, 2))
    v = (0.04 - 0.96 * S**2) / (0.96**2 * S**2 + 0.04**2)
    s = -1 / (0.96**2 * S**2 + 0.04**2)
    torch.testing.assert_close(sample, x * (1 - 0.04 * (v - 0.04 * s)))
    assert evaluate.times == [1.0, 0.04]


@pytest.mark.parametrize(
    "config", [EulerConfig(), HeunConfig(), SdeEulerConfig()], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_batch(config, dtype):
    x = start(10, dtype)
    whole, _ = run(config, x)
    assert whole.dtype == dtype
    parts = [
        run(config, x[part], Draws(0, part))[0]
        for part in (torch.arange(3), torch.arange(3, 4), torch.arange(4, 10))
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_shifted_grid_is_the_reference_one():
    """250 points at shift 0.3, published in time that runs from noise (0) to data (1)."""
    grid = [1 - t for t in space_times(249, 0.3)]
    published = {
        0: 0.0,
        1: 0.001208216,
        2: 0.002423263,
        3: 0.0036452,
        247: 0.9737188,
        248: 0.9867374,
        249: 1.0,
    }
    for index, value in published.items():
        assert grid[index] == pytest.approx(value, abs=6e-8)


def test_shift_composes_with_the_other_convention():
    """SD3's shift a, t = a u / (1 + (a - 1) u), is ours at 1 / a."""
    a = 3.0
    sd3 = [a * u / (1 + (a - 1) * u) for u in (i / 10 for i in range(10, -1, -1))]
    assert space_times(10, 1 / a) == pytest.approx(sd3)


def test_grid_ends_exactly():
    assert space_times(3) == pytest.approx((1.0, 2 / 3, 1 / 3, 0.0))
    for shift in (0.3, 1.0, 3.0):
        times = space_times(7, shift, end=0.04)
        assert (times[0], times[-1], len(times)) == (1.0, 0.04, 8)
        assert all(a > b for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (EulerConfig, {"steps": 0}, "'steps' must be >= 1"),
        (HeunConfig, {"shift": 0.0}, "'shift' must be > 0"),
        (SdeEulerConfig, {"steps": 1}, "'steps' must be >= 2"),
        (SdeEulerConfig, {"last_step_size": 0.0}, "'last_step_size' must be > 0"),
        (SdeEulerConfig, {"last_step_size": 1.0}, "'last_step_size' must be < 1"),
        (SdeEulerConfig, {"diffusion_norm": 0.0}, "'diffusion_norm' must be > 0"),
    ],
)
def test_impossible_settings_are_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


@pytest.mark.parametrize("config", [EulerConfig(), HeunConfig(), SdeEulerConfig(steps=100)], ids=repr)
def test_contract(config):
    check_sampler(config)
