"""DDPM's ancestral sampler and DDIM, against the papers' formulas in Python floats."""

import math

import pytest
import torch

from genmem.draws import Draws
from genmem.testing.sampler import GaussianEvaluation
from genmem_flow import CosineConfig, DdpmConfig, LinearConfig
from genmem_solvers import DdimConfig, EulerConfig
from genmem_solvers import DdpmConfig as AncestralConfig

T, S = 1000, 0.5
BETAS = [1e-4 + (0.02 - 1e-4) * i / (T - 1) for i in range(T)]
ALPHA_BAR = [math.prod(1 - beta for beta in BETAS[: k + 1]) for k in range(T)]


class Network(GaussianEvaluation):
    """The best noise for N(0, S²) and a made-up variance; notes its times."""

    def __init__(self, interpolant, place=None):
        super().__init__(S)
        self.interpolant, self.place, self.times = interpolant, place, []

    def __call__(self, x, t_B, span_B=None, /):
        self.times.append(t_B[0].item())
        path = self.interpolant.coefficients(t_B.view(-1, 1, 1, 1))
        noise = path.sigma * x / (path.alpha**2 * S**2 + path.sigma**2)
        if self.interpolant.predicts == "velocity":
            data = path.alpha * S**2 * x / (path.alpha**2 * S**2 + path.sigma**2)
            noise = path.d_sigma * noise + path.d_alpha * data
        output = noise if self.place is None else torch.cat([noise, torch.full_like(noise, self.place)], 1)
        return self.interpolant.fields(output, x, t_B)


def start(rows=4):
    return Draws(7, torch.arange(rows)).normal("start", (1, 2, 2)).double()


def noise_of(x, k):
    return math.sqrt(1 - ALPHA_BAR[k]) * x / (ALPHA_BAR[k] * S**2 + 1 - ALPHA_BAR[k])


@pytest.mark.parametrize("steps", [1, 2, 10, 250, 1000])
def test_evenly_respaced_steps(steps):
    """round(i · 999 / (N - 1)), first and last included; the network is asked at t = k / 999."""
    kept = [round(i * (T - 1) / (steps - 1)) for i in range(steps)] if steps > 1 else [T - 1]
    for config in (AncestralConfig(steps=steps), DdimConfig(steps=steps)):
        evaluate = Network(DdpmConfig(learn_variance=False).build())
        config.build()(evaluate, start(1), Draws(0, torch.arange(1)))
        assert [t * (T - 1) for t in evaluate.times] == pytest.approx(kept[::-1], abs=1e-9)
        assert len(evaluate.times) == config.evaluations == steps


@pytest.mark.parametrize("place", [None, -1.0, 0.3])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_by_hand(place, variance):
    """Mean and variance of the shortened chain, whose β is 1 - ᾱ_t/ᾱ_s (Nichol and Dhariwal, section 4)."""
    steps, draws = 8, Draws(5, torch.arange(4))
    kept = [round(i * (T - 1) / (steps - 1)) for i in range(steps)]
    x = start()
    config = AncestralConfig(steps=steps, variance=variance)
    ours = config.build()(Network(DdpmConfig(learn_variance=place is not None).build(), place), x, draws)
    for i, now in enumerate(reversed(range(steps))):
        a, before = ALPHA_BAR[kept[now]], ALPHA_BAR[kept[now - 1]] if now else 1.0
        beta = 1 - a / before
        data = (x - math.sqrt(1 - a) * noise_of(x, kept[now])) / math.sqrt(a)
        x = (math.sqrt(before) * beta * data + math.sqrt(1 - beta) * (1 - before) * x) / (1 - a)
        if now == 0:
            break
        small = beta * (1 - before) / (1 - a)
        share = {"small": 0.0, "large": 1.0}[variance] if place is None else (place + 1) / 2
        deviation = math.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(small)))
        x = x + deviation * draws.normal(f"ancestral/{i}", (1, 2, 2)).double()
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


def test_ddim_by_hand():
    """x_s = √ᾱ_s x̂ + √(1 - ᾱ_s) ε̂."""
    steps, x = 10, start()
    kept = [round(i * (T - 1) / (steps - 1)) for i in range(steps)]
    evaluate = Network(DdpmConfig(learn_variance=False).build())
    ours = DdimConfig(steps=steps).build()(evaluate, x, Draws(0, torch.arange(4)))
    for now in reversed(range(steps)):
        a, before = ALPHA_BAR[kept[now]], ALPHA_BAR[kept[now - 1]] if now else 1.0
        noise = noise_of(x, kept[now])
        x = math.sqrt(before) * (x - math.sqrt(1 - a) * noise) / math.sqrt(a) + math.sqrt(1 - before) * noise
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_ends_at_the_data(variance):
    """At first order in the variance: exactly, by linear superposition of start and noises."""

    class UnitDraws(Draws):
        def normal(self, purpose, shape=()):
            noise = torch.zeros(len(self), *shape)
            noise[int(purpose.removeprefix("ancestral/")) + 1] = 1
            return noise

    errors = []
    for steps in (60, 125, 250, 500):
        x = torch.zeros(steps + 1, 1, 1, 1, dtype=torch.float64)
        x[0] = 1
        evaluate = Network(DdpmConfig(learn_variance=False).build())
        out = AncestralConfig(steps=steps, variance=variance).build()(
            evaluate, x, UnitDraws(0, torch.arange(steps + 1))
        )
        errors.append(abs(out.square().sum().item() - S**2))
    assert errors[-1] < 0.03 * S**2 and errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]


@pytest.mark.parametrize("interpolant", [DdpmConfig(learn_variance=False), CosineConfig()], ids=repr)
def test_ddim_ends_at_the_data(interpolant):
    """It maps N(0, 1) to N(0, S²), at first order."""
    x, errors = start(), []
    for steps in (50, 100, 200):
        out = DdimConfig(steps=steps).build()(Network(interpolant.build()), x, Draws(0, torch.arange(4)))
        errors.append((out - S * x).abs().max().item())
    assert errors[2] < 0.03 and errors[0] > 1.6 * errors[1] > 1.6**2 * errors[2]


def test_ddim_on_the_linear_path_is_euler():
    x, draws = start(), Draws(0, torch.arange(4))
    for shift in (1.0, 0.4):
        euler = EulerConfig(steps=9, shift=shift).build()(GaussianEvaluation(S), x, draws)
        ddim = DdimConfig(steps=9, shift=shift).build()(GaussianEvaluation(S), x, draws)
        torch.testing.assert_close(ddim, euler, rtol=1e-12, atol=1e-12)


def test_more_steps_than_the_process_has_are_refused():
    process = DdpmConfig(steps=20, beta_max=0.5, learn_variance=False).build()
    for options in ({"steps": 21}, {"steps": 15, "shift": 0.1}):
        with pytest.raises(ValueError, match="do not fall on different ones of the process's 20"):
            AncestralConfig(**options).build()(Network(process), start(), Draws(0, torch.arange(4)))


def test_steps_nearer_to_the_data_than_the_process_goes_are_refused():
    network = Network(LinearConfig(target="noise", sample_eps=0.1).build())
    with pytest.raises(ValueError, match=r"ask at t = 0.09, and the process may be asked down to 0.1"):
        DdimConfig(steps=10).build()(network, start(), Draws(0, torch.arange(4)))


def test_samples_start_below_the_noise_where_the_process_does():
    evaluate = Network(LinearConfig(target="noise").build())
    DdimConfig(steps=4).build()(evaluate, start(), Draws(0, torch.arange(4)))
    assert evaluate.times == pytest.approx([0.999, 0.74925, 0.4995, 0.24975])
