"""The reverse SDE: every diffusion, Heun's method, last steps, ranges, and one evaluation a drift."""

import math
from itertools import pairwise

import pytest
import torch

from genmem.draws import Draws
from genmem.paths import spread
from genmem.testing.sampler import GaussianEvaluation
from genmem_flow import CosineConfig, DdpmConfig, LinearConfig, VpConfig
from genmem_solvers import SdeEulerConfig, SdeHeunConfig
from genmem_solvers.diffusion import DIFFUSIONS, follow_process

S = 0.5
PATHS = {"linear": LinearConfig, "cosine": CosineConfig, "vp": VpConfig}


class Gaussian(GaussianEvaluation):
    """The exact velocity of N(0, S²) on any path, and the times at which it was asked."""

    def __init__(self, interpolant=None):
        super().__init__(S)
        self.interpolant = interpolant or LinearConfig().build()
        self.times = []

    def __call__(self, x, t_B, span_B=None, /):
        self.times.append(t_B[0].item())
        path = self.interpolant.coefficients(spread(t_B, x))
        variance = path.alpha**2 * S**2 + path.sigma**2
        slope = (path.alpha * path.d_alpha * S**2 + path.sigma * path.d_sigma) / variance
        fields = self.interpolant.fields(x, x, t_B)
        return type(
            "Known",
            (),
            {
                "velocity": slope * x,
                "score": -x / variance,
                "data": path.alpha * S**2 / variance * x,
                "noise": fields.noise,
            },
        )


class UnitDraws(Draws):
    """Noise of step i is 1 in row i + 1 and 0 elsewhere."""

    def normal(self, purpose, shape=()):
        noise = torch.zeros(len(self), *shape)
        noise[int(purpose.removeprefix("sde/")) + 1] = 1
        return noise


def measure_variance(config, interpolant=None):
    """Exact variance of the samples: the solver is linear in its start and in each step's noise."""
    x = torch.zeros(config.steps, 1, 1, 1, dtype=torch.float64)
    x[0] = 1
    return (
        config.build()(Gaussian(interpolant), x, UnitDraws(0, torch.arange(config.steps)))
        .square()
        .sum()
        .item()
    )


@pytest.mark.parametrize("diffusion", [name for name in DIFFUSIONS if name != "sbdm"])
@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie", "none"])
def test_heuns_law(diffusion, last_step):
    """The variance of SiT's scheme on linear drifts, step by step: noise first, then Heun without noise."""
    n, steps, h = 0.8, 20, 0.04
    config = SdeHeunConfig(steps=steps, diffusion=diffusion, diffusion_norm=n, last_step=last_step)
    d = {
        "constant": lambda t: n,
        "sigma": lambda t: n * t,
        "linear": lambda t: n * t,
        "decreasing": lambda t: 0.25 * (n * math.cos(math.pi * (1 - t)) + 1) ** 2,
        "increasing-decreasing": lambda t: n * math.sin(math.pi * t) ** 2,
    }[diffusion]

    def slopes(t):
        marginal = (1 - t) ** 2 * S**2 + t**2
        return (t - (1 - t) * S**2) / marginal, -1 / marginal

    def drift(t):
        velocity, score = slopes(t)
        return velocity - d(t) * score

    end = 0.0 if last_step == "none" else h
    delta, total = (1 - end) / (steps - 1), 1.0
    for i in range(steps - 1):
        t = 1 - i * delta
        if last_step == "none" and i == steps - 2:
            total = total * (1 - delta * drift(t)) ** 2 + 2 * d(t) * delta
            break
        total += 2 * d(t) * delta
        total *= (1 - 0.5 * delta * (drift(t) + drift(t - delta) * (1 - delta * drift(t)))) ** 2
    total *= {
        "mean": 1 - h * drift(h),
        "euler": 1 - h * slopes(h)[0],
        "tweedie": (1 - h) * S**2 / ((1 - h) ** 2 * S**2 + h**2),
        "none": 1.0,
    }[last_step] ** 2
    assert measure_variance(config) == pytest.approx(total, rel=1e-11)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("method", [SdeEulerConfig, SdeHeunConfig])
def test_every_diffusion_on_every_path_ends_at_the_data(name, diffusion, method):
    """At first order in the variance."""
    errors = [
        abs(
            measure_variance(
                method(steps=n, diffusion=diffusion, last_step_size=2 / n), PATHS[name]().build()
            )
            - S**2
        )
        for n in (40, 80, 160)
    ]
    assert errors[2] < 0.13 * S**2
    assert all(fine < 0.6 * coarse + 2e-3 * S**2 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("name", PATHS)
def test_sbdm_is_the_papers_forward_and_reverse_sde(name):
    """dx = f x dt + g dW with f = d log α/dt and g² = dσ²/dt - 2 f σ² (GMem, eq. 3; for VP -β/2 and β);
    its reverse has drift f x - g² s (eq. 4), which is v - D s at D = g²/2."""
    process = PATHS[name]().build()
    t, h = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 1e-6
    at, up, down = (process.coefficients(t + shift) for shift in (0.0, h, -h))
    f = (up.alpha.log() - down.alpha.log()) / (2 * h)
    g2 = (up.sigma**2 - down.sigma**2) / (2 * h) - 2 * f * at.sigma**2
    if name == "vp":
        beta = 0.1 + 19.9 * t
        torch.testing.assert_close(f, -beta / 2, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(g2, beta, rtol=1e-7, atol=1e-7)
    d = follow_process(t, at, 1.0)
    torch.testing.assert_close(d, g2 / 2, rtol=1e-7, atol=1e-7)
    x, v = torch.randn(2, 19, dtype=torch.float64)
    fields = process.fields(v.view(-1, 1, 1, 1), x.view(-1, 1, 1, 1), t)
    torch.testing.assert_close(
        v - d * fields.score.flatten(), f * x - g2 * fields.score.flatten(), rtol=1e-6, atol=1e-6
    )


def test_published_diffusions():
    """At SiT's t = 0.3, our 0.7: V of the three paths, and the two forms of time alone."""
    t = torch.tensor([0.7], dtype=torch.float64)
    for name, value in (("linear", 2.333333), ("cosine", 3.0828614), ("vp", 7.015)):
        path = PATHS[name]().build().coefficients(t)
        assert DIFFUSIONS["sbdm"](t, path, 1.0).item() == pytest.approx(value, rel=1e-6)
    assert DIFFUSIONS["decreasing"](t, path, 1.0).item() == pytest.approx(0.6302655, rel=1e-6)
    assert DIFFUSIONS["increasing-decreasing"](t, path, 1.0).item() == pytest.approx(0.6545085, rel=1e-6)


# SiT's ranges for an SDE, in its time: noise end and data end, for h = 0.04 and for no last step.
RANGES = [
    (LinearConfig(), "sigma", (0, 0.96), (0, 1)),
    (CosineConfig(target="noise"), "sigma", (0.001, 0.96), (0.001, 0.999)),
    (LinearConfig(target="score"), "sbdm", (0.001, 0.96), (0.001, 0.999)),
    (LinearConfig(), "sbdm", (0.001, 0.96), (0.001, 1)),
    (CosineConfig(), "sbdm", (0.001, 0.96), (0.001, 1)),
    (VpConfig(), "sigma", (0, 0.96), (0, 0.999)),
    (VpConfig(), "sbdm", (0, 0.96), (0, 0.999)),
    (DdpmConfig(learn_variance=False), "sbdm", (0, 0.96), (0, 1)),
]


@pytest.mark.parametrize(("interpolant", "diffusion", "mean", "none"), RANGES, ids=repr)
def test_ranges_of_the_table(interpolant, diffusion, mean, none):
    for last_step, (noise, data) in (("mean", mean), ("none", none)):
        sampler = SdeHeunConfig(steps=5, diffusion=diffusion, last_step=last_step).build()
        times = sampler.times(interpolant.build())
        assert (1 - times[0], 1 - times[-1]) == pytest.approx((noise, data))


@pytest.mark.parametrize("steps", [2, 7, 50])
@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie", "none"])
@pytest.mark.parametrize("method", [SdeEulerConfig, SdeHeunConfig])
def test_evaluations_are_counted(method, steps, last_step):
    config, evaluate = method(steps=steps, last_step=last_step), Gaussian()
    out = config.build()(evaluate, torch.ones(1, 1, 1, 1), Draws(0, torch.arange(1)))
    assert len(evaluate.times) == config.evaluations and out.isfinite().all()
    assert min(evaluate.times) > 0


def test_gmems_released_setting():
    """Heun, D = t, last step 0.004, 50 steps: 99 evaluations instead of 198, and the same samples as
    the form that asks once for the velocity and once for the score."""
    config = SdeHeunConfig(steps=50, diffusion="linear", last_step_size=0.004)
    draws = Draws(3, torch.arange(8))
    x = start = draws.normal("start", (2, 4, 4))
    evaluate = Gaussian()
    ours = config.build()(evaluate, start, draws)
    assert config.evaluations == len(evaluate.times) == 99
    calls = 0

    def network(x, t):
        nonlocal calls
        calls += 1
        return x * (t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2)

    def drift(x, t):
        score = ((t - 1) * network(x, t) - x) / t
        return network(x, t) - t * score

    grid = torch.linspace(1.0, 0.004, 50, dtype=torch.float64).tolist()
    for i, (t, after) in enumerate(pairwise(grid)):
        z = draws.normal(f"sde/{i}", (2, 4, 4))
        x = x + math.sqrt(2 * t * (t - after)) * z
        k1 = drift(x, t)
        k2 = drift(x + (after - t) * k1, after)
        x = x + 0.5 * (after - t) * (k1 + k2)
    x = x - 0.004 * drift(x, 0.004)
    assert calls == 198
    torch.testing.assert_close(ours, x, atol=2e-5, rtol=2e-5)


def test_a_last_step_outside_the_process_is_refused():
    with pytest.raises(ValueError, match=r"last_step_size must lie in 0.1 … 0.9 here, got 0.04"):
        SdeEulerConfig().build()(
            Gaussian(LinearConfig(target="noise", sample_eps=0.1).build()),
            torch.ones(1, 1, 1, 1),
            Draws(0, torch.arange(1)),
        )
