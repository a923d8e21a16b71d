"""MeanFlow: the identity in closed form, the derivative through a network, guidance in training.

Data N(0, s²): σ_t² = (1 - t)² s² + t², v = z (t - (1 - t) s²) / σ_t², u = z (1 - σ_r/σ_t) / (t - r).
"""

import pytest
import torch
from scipy import stats

from genmem.contracts import Conditioning, Facts, Prediction, Times
from genmem.draws import Draws
from genmem.sampling.evaluation import NetworkEvaluation
from genmem_dit import SitConfig
from genmem_flow import MeanFlowConfig
from genmem_solvers import MeanFlowConfig as SamplerConfig

VARIANCE = 0.49


def wide(t):
    return t.view(-1, 1, 1, 1)


def deviation(t):
    return ((1 - t) ** 2 * VARIANCE + t**2).sqrt()


def velocity(z, t):
    return z * (t - (1 - t) * VARIANCE) / deviation(t) ** 2


def average(z, t_B, cond):
    """The average velocity, and the velocity itself where r = t."""
    t, span = wide(t_B), wide(cond.span_B)
    slope = (1 - deviation(t - span) / deviation(t)) / torch.where(span > 0, span, 1.0)
    return Prediction(torch.where(span > 0, z * slope, velocity(z, t)), {})


def pairs(rows=64):
    """Data and noise for which the conditional velocity ε - x is the marginal one at z."""
    draws = Draws(0, torch.arange(rows))
    z = draws.normal("z", (2, 3, 3)).double()
    t_B = 0.05 + 0.9 * draws.uniform("t").double()
    t, v = wide(t_B), velocity(z, wide(t_B))
    return z - t * v, z + (1 - t) * v, z, t_B, draws


def test_the_identity_holds_in_closed_form():
    x, noise, z, t_B, draws = pairs()
    times = Times(t_B, t_B * (0.05 + 0.9 * draws.uniform("span").double()))
    result = MeanFlowConfig(power=0.0).build().regress(average, x, noise, times, Conditioning())
    torch.testing.assert_close(result.x_t, z)
    torch.testing.assert_close(result.target, result.prediction.output, atol=1e-10, rtol=0)
    assert result.loss_B.max() < 1e-19


def test_the_identity_fails_for_other_fields():
    """So that the test above says something: another average velocity leaves a residual."""
    x, noise, _, t_B, _ = pairs()
    moved = lambda z, t, cond: Prediction(average(z, t, cond).output * 1.01, {})  # noqa: E731
    process = MeanFlowConfig(power=0.0).build()
    assert process.regress(moved, x, noise, Times(t_B, t_B / 2), Conditioning()).loss_B.min() > 1e-8


def test_one_evaluation_gives_the_data():
    """N(0, 1) is mapped to variance 0.4916 for s² = 0.49 (0.49 exactly, for infinitely many)."""
    network = torch.nn.Module()
    network.register_parameter("unused", torch.nn.Parameter(torch.zeros(())))
    network.forward = average
    x = Draws(1, torch.arange(40_000)).normal("x", (1, 1, 2)).double()
    for steps in (1, 2, 5):
        evaluate = NetworkEvaluation(network, MeanFlowConfig().build(), Conditioning())
        out = SamplerConfig(steps=steps).build()(evaluate, x, Draws(0, torch.arange(len(x))))
        assert evaluate.calls == steps == SamplerConfig(steps=steps).evaluations
        # Exact for every single number, so the variance is 0.49 times that of what was drawn.
        torch.testing.assert_close(out, 0.7 * x, atol=1e-12, rtol=1e-12)
        assert out.var().item() == pytest.approx(0.49, abs=0.01)


def test_times():
    """t and r are the larger and smaller of two draws; r < t for a quarter."""
    times = MeanFlowConfig().build().times(Draws(0, torch.arange(40_000)))
    apart = times.span_B > 0
    assert abs(apart.double().mean() - 0.25) < 4 * (0.25 * 0.75 / 40_000) ** 0.5
    assert (times.span_B <= times.t).all()
    law = stats.norm(-0.4, 1.0)
    logit = lambda t: (t / (1 - t)).log().double().numpy()  # noqa: E731
    assert stats.kstest(logit(times.t), lambda u: law.cdf(u) ** 2).pvalue > 1e-3
    smaller = logit((times.t - times.span_B)[apart])
    assert stats.kstest(smaller, lambda u: 1 - (1 - law.cdf(u)) ** 2).pvalue > 1e-3


@pytest.mark.parametrize(("power", "floor"), [(1.0, 0.01), (0.75, 0.1), (0.0, 1.0)])
def test_adaptive_weight(power, floor):
    """loss = S / sg(S + c)^p with S the sum of squares; its gradient is ∇S / (S + c)^p."""
    x, noise, _, t_B, _ = pairs(4)
    scale = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    network = lambda z, t, cond: Prediction(scale * average(z, t, cond).output, {})  # noqa: E731
    times = Times(t_B, torch.zeros_like(t_B))
    config = MeanFlowConfig(power=power, floor=floor)
    result = config.build().regress(network, x, noise, times, Conditioning())
    size = velocity(*(wide(part) if part.ndim == 1 else part for part in (result.x_t, t_B)))
    error = (0.1 * size).square().flatten(1).sum(1).detach()
    torch.testing.assert_close(result.loss_B.detach(), error / (error + floor) ** power)
    result.loss_B.sum().backward()
    expected = (2 * 0.1 * size.square().flatten(1).sum(1) / (error + floor) ** power).sum()
    torch.testing.assert_close(scale.grad, expected)


def build_sit(dtype=torch.float64):
    facts = Facts(sample_shape=(2, 4, 4), output_channels=2, num_classes=3)
    torch.manual_seed(0)
    config = SitConfig(depth=2, width=16, heads=2, patch=2, span=True, attention="math", init="xavier")
    return config.build(facts).to(dtype)


def test_the_derivative_through_sit_is_that_of_finite_differences():
    """target = v - (t - r) du/dt, du/dt along (v, 0, 1) in (z, r, t)."""
    net = build_sit()
    draws = Draws(0, torch.arange(6))
    x, noise = (draws.normal(name, (2, 4, 4)).double() for name in ("x", "noise"))
    t, span = torch.linspace(0.3, 0.9, 6).double(), torch.linspace(0.1, 0.3, 6).double()
    cond = Conditioning(label_B=torch.arange(6) % 3)
    predict = lambda z, t, cond: net(z, t, cond, taps=(1,))  # noqa: E731
    result = MeanFlowConfig().build().regress(predict, x, noise, Times(t, span), cond)
    v, h = noise - x, 1e-4

    def u(s):
        return net(result.x_t + s * v, t + s, cond._replace(span_B=span + s)).output

    slope = (u(h) - u(-h)) / (2 * h)
    assert slope.abs().max() > 0.1
    torch.testing.assert_close(result.target, v - wide(span) * slope, atol=1e-3, rtol=1e-3)
    # The taps are the plain forward's, and carry a gradient.
    plain = net(result.x_t, t, cond._replace(span_B=span), taps=(1,))
    torch.testing.assert_close(result.prediction.hidden[1], plain.hidden[1])
    torch.testing.assert_close(result.prediction.output, plain.output)
    (gradient,) = torch.autograd.grad(result.prediction.hidden[1].sum(), net.blocks[0].mlp.fc2.weight)
    assert gradient.abs().max() > 0


def test_the_loss_trains_and_can_be_measured_without_gradient():
    net = build_sit(torch.float32)
    draws = Draws(0, torch.arange(6))
    x, noise = (draws.normal(name, (2, 4, 4)) for name in ("x", "noise"))
    process, cond = MeanFlowConfig(two_times=1.0, power=0.0).build(), Conditioning(torch.arange(6) % 3)
    times = process.times(draws)
    result = process.regress(net, x, noise, times, cond)
    assert not result.target.requires_grad
    result.loss_B.mean().backward()
    assert net.blocks[0].mlp.fc2.weight.grad.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(process.regress(net, x, noise, times, cond).loss_B, result.loss_B)


class TwoConstants:
    """A network that gives `with` or `without` everywhere, and notes how it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, z, t, cond):
        self.asked.append(cond)
        dropped = torch.zeros(len(z), dtype=torch.bool) if cond.drop_B is None else cond.drop_B
        value = torch.where(dropped, 3.0, 5.0).to(z)
        return Prediction(wide(value) + 0 * z, {})


@pytest.mark.parametrize(
    ("omega", "kappa", "calls"), [(1.0, 0.0, 1), (2.0, 0.0, 2), (1.0, 0.5, 3), (0.2, 0.8, 2)]
)
def test_guidance_in_training(omega, kappa, calls):
    """v_g = ω v + (1 - ω - κ) u(∅) + κ u(y) inside the interval and where nothing is dropped."""
    x, noise, _, _, _ = pairs(4)
    t_B = torch.tensor([0.1, 0.5, 0.6, 0.9], dtype=torch.float64)
    drop_B = torch.tensor([False, False, True, False])
    network = TwoConstants()
    process = MeanFlowConfig(omega=omega, kappa=kappa, interval=(0.3, 0.9)).build()
    cond = Conditioning(label_B=torch.arange(4), drop_B=drop_B)
    result = process.regress(network, x, noise, Times(t_B, torch.zeros(4).double()), cond)
    assert len(network.asked) == calls
    v = noise - x
    guided = omega * v + (1 - omega - kappa) * 3.0 + kappa * 5.0
    inside = torch.tensor([False, True, False, True])
    torch.testing.assert_close(result.target, torch.where(wide(inside), guided, v))
    assert not any(asked.span_B.any() for asked in network.asked[:-1])
