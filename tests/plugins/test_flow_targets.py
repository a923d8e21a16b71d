"""Paths, targets, weights and eps of the interpolants, against formulas in float64."""

import math

import pytest
import torch
from scipy import stats

from genmem.contracts import Conditioning, Prediction, Times
from genmem.draws import Draws
from genmem_flow import CosineConfig, DdpmConfig, LinearConfig, MeanFlowConfig, VpConfig

PATHS = {"linear": LinearConfig, "cosine": CosineConfig, "vp": VpConfig}
TARGETS = ("velocity", "noise", "score", "x0")
CONFIGS = [config(target=target) for config in PATHS.values() for target in TARGETS] + [
    DdpmConfig(learn_variance=False),
    MeanFlowConfig(),
]
every_path = pytest.mark.parametrize("name", PATHS)
every_config = pytest.mark.parametrize("config", CONFIGS, ids=repr)
cosine = math.pi / 2


def sample(batch: int = 7):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, batch, 2, 3, 3, generator=generator, dtype=torch.float64))


def wide(t):
    return t.view(-1, 1, 1, 1)


def exact(name, t):
    """α and σ at t, by the papers."""
    if name == "linear":
        return 1 - t, t
    if name == "cosine":
        return math.cos(cosine * t), math.sin(cosine * t)
    integral = 0.1 * t + 19.9 * t**2 / 2
    return math.exp(-integral / 2), math.sqrt(1 - math.exp(-integral))


@every_path
def test_paths(name):
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    path = PATHS[name]().build().coefficients(t)
    for i, time in enumerate(t.tolist()):
        assert (path.alpha[i].item(), path.sigma[i].item()) == pytest.approx(exact(name, time), rel=1e-12)


@every_path
def test_the_ends_are_exact(name):
    path = PATHS[name]().build()
    ends = path.coefficients(torch.tensor([0.0, 1.0]))
    assert ends.alpha[0] == 1 and ends.sigma[0] == 0 and abs(ends.sigma[1] - 1) < 3e-5
    assert ends.alpha[1] == (0 if name != "vp" else pytest.approx(math.exp(-5.025), rel=1e-5))


def test_ddpm_steps():
    """ᾱ_k = Π (1 - β_i), multiplied out; whole steps and the embedding of step k at k / 999."""
    process = DdpmConfig().build()
    k = torch.tensor([0, 1, 2, 17, 500, 998, 999])
    expected = [math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(int(n) + 1)) for n in k]
    for dtype, rel in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        path = process.coefficients(k.to(dtype) / 999)
        assert path.alpha.square().tolist() == pytest.approx(expected, rel=rel)
        assert path.sigma.square().tolist() == pytest.approx([1 - value for value in expected], rel=rel)
    assert process.limits() == (0.0, 1.0, 1000)


def test_ddpm_between_the_steps():
    """ᾱ_k = δ^(k+1) Γ(c + 1) / Γ(c - k), with few steps, where the logarithms do not cancel."""
    process = DdpmConfig(steps=6, beta_min=0.1, beta_max=0.6).build()
    t = torch.linspace(0, 1, 38, dtype=torch.float64)
    found = process.coefficients(t).alpha.square()
    expected = 0.1 ** (5 * t + 1) * (torch.lgamma(t * 0 + 10) - torch.lgamma(9 - 5 * t)).exp()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@every_config
def test_velocity_is_the_derivative_of_the_mix(config):
    """α' x + σ' ε, read from the exact output, is the numerical d/dt of x_t."""
    process = config.build()
    x, noise = sample()
    t, h = torch.linspace(0.053, 0.947, 7, dtype=torch.float64), 1e-6
    slope = (process.mix(x, noise, t + h) - process.mix(x, noise, t - h)) / (2 * h)
    fields = process.fields(process.target(x, noise, t), process.mix(x, noise, t), t)
    torch.testing.assert_close(fields.velocity, slope, atol=1e-7, rtol=1e-7)


@every_config
def test_targets_convert_into_each_other(config):
    process = config.build()
    x, noise = sample()
    t = torch.linspace(0.02, 0.98, 7, dtype=torch.float64)
    x_t = process.mix(x, noise, t)
    path = process.coefficients(wide(t))
    fields = process.fields(process.target(x, noise, t), x_t, t)
    torch.testing.assert_close(fields.velocity, path.d_alpha * x + path.d_sigma * noise, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(fields.noise, noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fields.data, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(fields.score, -noise / path.sigma, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_network_gives_is_read_as_it_is(target):
    """In float32 and near the ends, where any conversion would cost digits."""
    process = CosineConfig(target=target).build()
    output, x_t = (part.float() for part in sample())
    fields = process.fields(output, x_t, torch.full((7,), 0.001))
    given = {"x0": "data"}.get(target, target)
    assert torch.equal(getattr(fields, given), output)


def loss(config, x, noise, t, wrong):
    """Per-sample loss of an output that is off by `wrong`."""
    process = config.build()
    output = process.target(x, noise, t) + wrong
    return process.regress(lambda *_: Prediction(output, {}), x, noise, Times(t), Conditioning()).loss_B


@every_path
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weight", ["velocity", "likelihood", "min-snr"])
def test_a_weight_means_the_same_for_every_target(name, target, weight):
    """An error of the output is turned into one of the noise by the fields themselves, and weighted by
    (V/σ)², V/σ² or min(SNR, γ)/SNR, V = g²/2 from the forward SDE: f = α'/α, g² = dσ²/dt - 2 f σ²."""
    config = PATHS[name](target=target, weight=weight, gamma=2.0)
    process = config.build()
    x, noise = sample()
    t, h = torch.linspace(0.05, 0.95, 7, dtype=torch.float64), 1e-6
    wrong = 0.3 * torch.randn_like(x)
    x_t = process.mix(x, noise, t)
    off = process.fields(process.target(x, noise, t) + wrong, x_t, t).noise - noise
    (a, s), (a_up, s_up), (a_down, s_down) = (
        zip(*(exact(name, u) for u in (t + shift).tolist()), strict=True) for shift in (0, h, -h)
    )
    for i, error in enumerate(off.square().flatten(1).mean(1).tolist()):
        f = (math.log(a_up[i]) - math.log(a_down[i])) / (2 * h)
        v = ((s_up[i] ** 2 - s_down[i] ** 2) / (2 * h) - 2 * f * s[i] ** 2) / 2
        ratio = a[i] ** 2 / s[i] ** 2
        expected = {
            "velocity": (v / s[i]) ** 2,
            "likelihood": v / s[i] ** 2,
            "min-snr": min(ratio, 2.0) / ratio,
        }[weight]
        assert loss(config, x, noise, t, wrong)[i].item() == pytest.approx(expected * error, rel=1e-5)


@every_path
@pytest.mark.parametrize("target", TARGETS)
def test_no_weight_is_the_plain_square(name, target):
    """Of the score, σ² times it: E‖σ s + ε‖² (GMem paper)."""
    x, noise = sample()
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    found = loss(PATHS[name](target=target), x, noise, t, 0.5)
    sigma = torch.tensor([exact(name, u)[1] for u in t.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, 0.25 * (sigma**2 if target == "score" else torch.ones(7).double()))


# SiT's table of eps in its own time: trained (t0, t1), ODE (t0, t1). Ours is 1 - t.
EPS = [
    ("linear", "velocity", (0, 1), (0, 1)),
    ("cosine", "velocity", (0, 1), (0, 1)),
    ("linear", "score", (0.001, 0.999), (0.001, 0.999)),
    ("cosine", "noise", (0.001, 0.999), (0.001, 0.999)),
    *(("vp", target, (0, 0.99999), (0, 0.999)) for target in ("velocity", "noise", "score")),
]


@pytest.mark.parametrize(("name", "target", "trained", "sampled"), EPS)
def test_eps_of_the_table(name, target, trained, sampled):
    process = PATHS[name](target=target).build()
    low, high, steps = process.limits()
    assert (1 - high, 1 - low) == pytest.approx(sampled) and steps is None
    t = process.times(Draws(0, torch.arange(50_000))).t.double()
    found = 1 - t
    assert stats.kstest(found.numpy(), stats.uniform(trained[0], trained[1] - trained[0]).cdf).pvalue > 1e-3
    # Of 50,000 times the outermost are 2e-5 from the ends on average.
    assert -1e-7 <= found.min() - trained[0] < 3e-4 and -1e-7 <= trained[1] - found.max() < 3e-4


def test_eps_may_be_chosen():
    process = LinearConfig(target="x0", train_eps=0.1, sample_eps=0.2).build()
    assert process.limits() == (0.2, 0.8, None)
    t = process.times(Draws(0, torch.arange(1000))).t
    assert 0.1 <= t.min() < 0.11 and 0.89 < t.max() <= 0.9


def test_shifted_times():
    """u / (s + (1 - s) u) at s = 0.3: its distribution function is s t / (1 - (1 - s) t)."""
    t = LinearConfig(time="shifted", time_shift=0.3).build().times(Draws(0, torch.arange(20_000))).t
    assert stats.kstest(t.numpy(), lambda t: 0.3 * t / (1 - 0.7 * t)).pvalue > 1e-3
    assert t.mean() > 0.6


@every_config
def test_times_do_not_depend_on_the_batch(config):
    process = config.build()
    whole = process.times(Draws(3, torch.arange(10))).t
    parts = [process.times(Draws(3, part)).t for part in torch.arange(10).split(3)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (LinearConfig, {"time": "shifted"}, 'time = "shifted" needs time_shift'),
        (LinearConfig, {"time_shift": 0.5}, 'time_shift belongs to time = "shifted"'),
        (VpConfig, {"sample_eps": 0.5}, "'sample_eps' must be < 0.5"),
        (CosineConfig, {"gamma": 0.0}, "'gamma' must be > 0"),
        (DdpmConfig, {"beta_min": 0.02}, "beta_max .* must be above beta_min"),
        (MeanFlowConfig, {"two_times": 1.5}, "'two_times' must be <= 1"),
        (MeanFlowConfig, {"kappa": 1.0}, "'kappa' must be < 1"),
    ],
)
def test_refusals(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_declarations():
    assert MeanFlowConfig().consumes == {"span"} and not VpConfig().consumes
    assert DdpmConfig().output_channels(3) == 6 and DdpmConfig(learn_variance=False).output_channels(3) == 3
    assert LinearConfig().predicts_velocity and MeanFlowConfig().predicts_velocity
    assert not DdpmConfig().predicts_velocity and not LinearConfig(target="x0").predicts_velocity
