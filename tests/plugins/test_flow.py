"""The `linear` interpolant and the laws of its training times."""

import math

import pytest
import torch
from scipy import stats

from genmem.draws import Draws
from genmem.testing import check_interpolant
from genmem_flow import LinearConfig


def draw(config: LinearConfig, rows: int = 20_000, seed: int = 0) -> torch.Tensor:
    return config.build().times(Draws(seed, torch.arange(rows))).t


def test_linear_path():
    x, noise = torch.randn(2, 3, 1, 2, 2, dtype=torch.float64)
    path = LinearConfig().build()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    expected = torch.stack([x[0], 0.75 * x[1] + 0.25 * noise[1], noise[2]])
    torch.testing.assert_close(path.mix(x, noise, t), expected)
    assert [value[1].item() for value in path.coefficients(t)] == [0.75, 0.25, -1.0, 1.0]
    torch.testing.assert_close(path.fields(noise - x, expected, t).data, x)


def test_uniform_times():
    t = draw(LinearConfig())
    assert t.min() >= 0 and t.max() < 1
    assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("mean", "std"), [(None, None), (-0.4, 1.0), (1.5, 0.3)])
def test_logit_normal_times(mean, std):
    t = draw(LinearConfig(time="logit-normal", time_mean=mean, time_std=std)).double()
    logit = (t / (1 - t)).log().numpy()
    law = stats.norm(0.0 if mean is None else mean, 1.0 if std is None else std)
    assert stats.kstest(logit, law.cdf).pvalue > 1e-3
    assert ((t < 0.5).double().mean() - law.cdf(0.0)).abs() < 4 * math.sqrt(0.25 / len(t))


@pytest.mark.parametrize("time", ["uniform", "logit-normal"])
def test_times_do_not_depend_on_the_batch(time):
    path = LinearConfig(time=time).build()
    whole = path.times(Draws(3, torch.arange(10))).t
    parts = [path.times(Draws(3, part)).t for part in torch.arange(10).split(3)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, path.times(Draws(4, torch.arange(10))).t)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_mean": 0.0}, 'time_mean belongs to time = "logit-normal", but time is "uniform"'),
        ({"time_std": 1.0}, 'time_std belongs to time = "logit-normal"'),
        ({"time": "logit-normal", "time_std": 0.0}, "'time_std' must be > 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        LinearConfig(**options)


def test_declarations():
    assert LinearConfig().consumes == frozenset()
    assert LinearConfig().output_channels(4) == 4


@pytest.mark.parametrize("time", ["uniform", "logit-normal"])
def test_contract(time):
    check_interpolant(LinearConfig(time=time))
