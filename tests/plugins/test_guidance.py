"""Classifier-free guidance: what it computes, where, and what it costs."""

import pytest
import torch
from torch import nn

from genmem.contracts import Conditioning, Prediction
from genmem.draws import Draws
from genmem.sampling.evaluation import NetworkEvaluation
from genmem_flow import DdpmConfig, LinearConfig
from genmem_solvers import CfgConfig, Dopri5Config, EulerConfig, HeunConfig, SdeHeunConfig


class Network(nn.Module):
    """Pulls towards its label, or to 0 without one; notes times, drops and sizes of its calls."""

    def __init__(self, twice=False):
        super().__init__()
        self.twice = twice
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.asked = []

    def forward(self, x, t, cond, /, **asked):
        dropped = torch.zeros(len(x), dtype=torch.bool) if cond.drop_B is None else cond.drop_B
        self.asked.append((t.tolist(), dropped.tolist()))
        towards = torch.where(dropped, 0.0, cond.label_B.to(x)).view(-1, 1, 1, 1)
        channel = torch.arange(1.0, 1 + x.shape[1]).view(1, -1, 1, 1)
        output = (x - channel * towards) * self.weight.to(x) + t.view(-1, 1, 1, 1).sin()
        return Prediction(torch.cat([output, 2 * output], 1) if self.twice else output, {})


def run(sampler, guidance=None, rows=6, channels=4, interpolant=None, **options):
    network = Network(**options)
    draws = Draws(0, torch.arange(rows))
    cond = Conditioning(label_B=draws.integers("label", 5))
    built = None if guidance is None else guidance.build()
    evaluate = NetworkEvaluation(network, interpolant or LinearConfig().build(), cond, built)
    out = sampler.build()(evaluate, draws.normal("x", (channels, 2, 2)), draws)
    return out, evaluate, network


SAMPLERS = [EulerConfig(steps=20), HeunConfig(steps=10), SdeHeunConfig(steps=10), Dopri5Config()]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)


@every_sampler
@pytest.mark.parametrize(
    "guidance",
    [
        CfgConfig(scale=1.0),
        CfgConfig(scale=4.0, interval=(1.0, 0.0)),
        CfgConfig(scale=3.0, interval=(2.0, 3.0)),
    ],
    ids=repr,
)
def test_no_guidance_is_no_guidance(sampler, guidance):
    """Bit for bit, at the same cost."""
    plain, guided = run(sampler), run(sampler, guidance)
    assert torch.equal(plain[0], guided[0])
    assert torch.equal(plain[1].evaluations_B, guided[1].evaluations_B)
    assert plain[2].asked == guided[2].asked


def test_the_formula():
    """u + s (c - u) at every guided step, by hand."""
    out, _, network = run(EulerConfig(steps=4), CfgConfig(scale=2.5, interval=(0.4, 0.8)))
    draws = Draws(0, torch.arange(6))
    label, x = draws.integers("label", 5), draws.normal("x", (4, 2, 2))

    def ask(x, t, drop):
        return network(x, torch.full((6,), t), Conditioning(label, drop_B=torch.full((6,), drop))).output

    for t in (1.0, 0.75, 0.5, 0.25):
        c, u = ask(x, t, False), ask(x, t, True)
        x = x - 0.25 * (u + 2.5 * (c - u) if 0.4 <= t <= 0.8 else c)
    torch.testing.assert_close(out, x, atol=1e-6, rtol=1e-6)


def test_guiding_the_first_channels():
    every, _, _ = run(EulerConfig(steps=5), CfgConfig(scale=3.0))
    first, _, _ = run(EulerConfig(steps=5), CfgConfig(scale=3.0, channels=3))
    plain, _, _ = run(EulerConfig(steps=5))
    torch.testing.assert_close(first[:, :3], every[:, :3])
    torch.testing.assert_close(first[:, 3:], plain[:, 3:])
    assert not torch.allclose(every[:, 3:], plain[:, 3:])
    with pytest.raises(ValueError, match="channels = 5, but a sample has 4"):
        run(EulerConfig(steps=5), CfgConfig(scale=3.0, channels=5))


@pytest.mark.parametrize("channels", ["all", 3])
def test_a_learned_variance_is_not_guided(channels):
    config, network = DdpmConfig(), Network(twice=True)
    x, t_B, cond = torch.randn(2, 4, 2, 2), torch.full((2,), 0.5), Conditioning(torch.tensor([1, 2]))
    guidance = CfgConfig(scale=3.0, channels=channels).build()
    guided = NetworkEvaluation(network, config.build(), cond, guidance)(x, t_B)
    plain = NetworkEvaluation(network, config.build(), cond)(x, t_B)
    assert torch.equal(guided.variance, plain.variance)
    assert not torch.allclose(guided.noise, plain.noise)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 0.6), (0.9, 1.0), (0.5, 0.5)])
@every_sampler
def test_evaluations_are_saved_exactly_outside_the_interval(sampler, low, high):
    """A sample costs one evaluation at every time, and one more at those inside; the network is
    asked without condition nowhere else, and a guided evaluation is two calls."""
    _, evaluate, network = run(sampler, CfgConfig(scale=2.0, interval=(low, high)))
    t = torch.tensor([t for at, _ in network.asked for t in at])
    dropped = torch.tensor([drop for _, drops in network.asked for drop in drops])
    inside = (t >= low) & (t <= high)
    assert sorted(t[dropped].tolist()) == sorted(t[inside & ~dropped].tolist())
    with_condition, without = len(t[~dropped]), len(t[dropped])
    assert evaluate.evaluations_B.sum() == with_condition + without
    assert evaluate.calls == len(network.asked)
    if sampler.evaluations is not None:
        assert with_condition == 6 * sampler.evaluations
        assert (evaluate.evaluations_B == evaluate.evaluations_B[0]).all()


def test_a_tenth_of_the_interval():
    """At 100 Euler steps and guidance for a tenth of them: 110 evaluations instead of 200."""
    _, always, _ = run(EulerConfig(steps=100), CfgConfig(scale=2.0))
    _, seldom, _ = run(EulerConfig(steps=100), CfgConfig(scale=2.0, interval=(0.455, 0.555)))
    assert always.evaluations_B.unique().tolist() == [200]
    assert seldom.evaluations_B.unique().tolist() == [110]


def test_rows_of_one_call_may_be_guided_or_not():
    """Times of their own, as the adaptive sampler's: what each row gets does not depend on the others."""
    guidance, t_B = CfgConfig(scale=3.0, interval=(0.2, 0.5)), torch.tensor([0.1, 0.3, 0.5, 0.7])
    x, cond = torch.randn(4, 2, 2, 2), Conditioning(torch.arange(4), memory_BKE=torch.randn(4, 1, 3))
    whole = NetworkEvaluation(Network(), LinearConfig().build(), cond, guidance.build())
    together = whole(x, t_B).velocity
    assert whole.calls == 2 and whole.evaluations_B.tolist() == [1, 2, 2, 1]
    for row in range(4):
        part = whole.select(torch.tensor([row]))
        torch.testing.assert_close(
            part(x[row : row + 1], t_B[row : row + 1]).velocity, together[row : row + 1]
        )
    assert whole.evaluations_B.tolist() == [2, 4, 4, 2] and whole.calls == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -1.0}, "'scale' must be >= 0"),
        ({"scale": 2.0, "channels": 0}, 'channels must be "all" or 1'),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CfgConfig(**options)


def test_training_must_drop_the_condition_only_where_it_is_asked_for():
    assert CfgConfig(scale=2.0).needs_drop and CfgConfig(scale=0.0).needs_drop
    assert not CfgConfig(scale=1.0).needs_drop and not CfgConfig(scale=2.0, interval=(1.0, 0.0)).needs_drop
