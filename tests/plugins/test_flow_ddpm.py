"""DDPM's loss against an independent float64 form, term by term as in the papers."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from genmem.contracts import Conditioning, Prediction, Times
from genmem.draws import Draws
from genmem_flow import DdpmConfig
from genmem_flow.likelihood import binned_log_likelihood, gaussian_divergence

T = 1000


def bound(x, noise, k, noise_guess, raw):
    """L_vlb of one element in bits, by Python floats. β, ᾱ and the posterior by their definitions."""
    betas = [1e-4 + (0.02 - 1e-4) * i / (T - 1) for i in range(T)]
    alpha_bar = [1.0]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - beta))

    def posterior_variance(k):
        return betas[k] * (1 - alpha_bar[k]) / (1 - alpha_bar[k + 1])

    now, before, beta = alpha_bar[k + 1], alpha_bar[k], betas[k]
    x_k = math.sqrt(now) * x + math.sqrt(1 - now) * noise
    guess = (x_k - math.sqrt(1 - now) * noise_guess) / math.sqrt(now)

    def mean(x):
        return (math.sqrt(before) * beta * x + math.sqrt(1 - beta) * (1 - before) * x_k) / (1 - now)

    share = (raw + 1) / 2
    small = posterior_variance(max(k, 1))
    variance = math.exp(share * math.log(beta) + (1 - share) * math.log(small))
    if k == 0:
        law = stats.norm(mean(guess), math.sqrt(variance))
        high = 1.0 if x > 0.999 else law.cdf(x + 1 / 255)
        low = 0.0 if x < -0.999 else law.cdf(x - 1 / 255)
        return -math.log(max(high - low, 1e-12)) / math.log(2)
    first = Normal(torch.tensor(mean(x), dtype=torch.float64), math.sqrt(small))
    second = Normal(torch.tensor(mean(guess), dtype=torch.float64), math.sqrt(variance))
    return kl_divergence(first, second).item() / math.log(2)


def example(steps):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(len(steps), 1, 2, 2, generator=generator, dtype=torch.float64) * 2 - 1
    x[:, 0, 0, 0], x[:, 0, 1, 1] = 1.0, -1.0
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    near = noise + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    raw = torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2.4 - 1.2
    return x, noise, near, raw


def regress(x, noise, steps, output):
    times = Times(torch.tensor(steps, dtype=x.dtype) / (T - 1))
    return DdpmConfig().build().regress(lambda *_: Prediction(output, {}), x, noise, times, Conditioning())


def test_the_loss_is_the_papers():
    steps = [0, 1, 2, 3, 100, 500, 998, 999]
    x, noise, guess, raw = example(steps)
    found = regress(x, noise, steps, torch.cat([guess, raw], 1)).loss_B
    for row, k in enumerate(steps):
        parts = zip(*(part[row].flatten().tolist() for part in (x, noise, guess, raw)), strict=True)
        each = [(g - e) ** 2 + bound(a, e, k, g, r) for a, e, g, r in parts]
        assert found[row].item() == pytest.approx(sum(each) / len(each), rel=1e-8), k


def test_the_bound_is_the_same_in_float32():
    steps = [0, 1, 50, 999]
    x, noise, guess, raw = example(steps)
    double = regress(x, noise, steps, torch.cat([guess, raw], 1)).loss_B
    single = regress(x.float(), noise.float(), steps, torch.cat([guess, raw], 1).float()).loss_B
    torch.testing.assert_close(single.double(), double, rtol=2e-4, atol=1e-4)


def test_the_bound_trains_the_variance_alone():
    """The gradient at the noise is that of L_simple; the variance's is the bound's."""
    steps = [0, 3, 700]
    x, noise, guess, raw = example(steps)
    output = torch.cat([guess, raw], 1).requires_grad_()
    regress(x, noise, steps, output).loss_B.sum().backward()
    of_noise, of_variance = output.grad.chunk(2, 1)
    torch.testing.assert_close(of_noise, 2 * (guess - noise) / 4)
    h, row, place = 1e-6, 1, (0, 0, 1)
    args = [part[row][place].item() for part in (x, noise, guess, raw)]
    moved = [bound(args[0], args[1], 3, args[2], args[3] + s) for s in (h, -h)]
    assert of_variance[row][place].item() == pytest.approx((moved[0] - moved[1]) / (2 * h) / 4, rel=1e-5)


def test_the_target_is_the_noise_and_the_steps_are_whole():
    x, noise, guess, raw = example([5, 6])
    result = regress(x, noise, [5, 6], torch.cat([guess, raw], 1))
    assert torch.equal(result.target, noise)
    t = DdpmConfig(steps=10, beta_max=0.5).build().times(Draws(0, torch.arange(5000))).t.double() * 9
    torch.testing.assert_close(t, t.round(), atol=1e-5, rtol=0)
    assert stats.chisquare(torch.bincount(t.round().long(), minlength=10).numpy()).pvalue > 1e-3


def test_without_a_learned_variance():
    x, noise, guess, _ = example([0, 500])
    process = DdpmConfig(learn_variance=False).build()
    times = Times(torch.tensor([0, 500 / 999], dtype=torch.float64))
    result = process.regress(lambda *_: Prediction(guess, {}), x, noise, times, Conditioning())
    torch.testing.assert_close(result.loss_B, (guess - noise).square().flatten(1).mean(1))
    assert process.fields(guess, x, times.t).variance is None


def test_fields_keep_the_variance_apart():
    x, _, guess, raw = example([0, 500])
    fields = DdpmConfig().build().fields(torch.cat([guess, raw], 1), x, torch.tensor([0.0, 0.5]).double())
    assert torch.equal(fields.noise, guess)
    torch.testing.assert_close(fields.variance, (raw + 1) / 2)


def test_parts_of_the_bound():
    one, half = torch.tensor(1.0).double(), torch.tensor(0.5).double()
    assert gaussian_divergence(one, half, one, half) == 0
    # Far out on either side, where a distribution function is 1 to the last digit.
    for x, mean in ((0.5, 0.0), (-0.5, 0.0)):
        args = (torch.tensor(value, dtype=torch.float64) for value in (x, mean, math.log(0.05)))
        law = stats.norm(mean, 0.05)
        far = law.sf(abs(x) - 1 / 255) - law.sf(abs(x) + 1 / 255)
        assert binned_log_likelihood(*args).item() == pytest.approx(math.log(max(far, 1e-12)), rel=1e-9)
