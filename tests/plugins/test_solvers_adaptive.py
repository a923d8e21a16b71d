"""dopri5 with one step size a sample, and rk4, against torchdiffeq and closed forms."""

import math
from itertools import pairwise

import pytest
import torch
import torchdiffeq

from genmem.contracts import Coefficients
from genmem.draws import Draws
from genmem.paths import AffinePath
from genmem.testing.sampler import GaussianEvaluation
from genmem_solvers import Dopri5Config, Rk4Config

S = 0.5
NONE = Draws(0, torch.arange(0))


class Pendulum(GaussianEvaluation):
    """A stiff-free but curved field, the same for every row, harder for rows that start far out."""

    def __call__(self, x, t_B, span_B=None, /):
        super().__call__(x, t_B, span_B)
        return self.interpolant.fields(field(x, t_B.view(-1, 1, 1, 1)), x, t_B)

    def select(self, rows_B, /):
        part = Pendulum()
        part.evaluated, part._rows_B = self.evaluated, rows_B
        return part


def field(x, t):
    return torch.sin(3 * x) * torch.cos(6 * t) + 4 * t * x


def start(rows, dtype=torch.float64):
    return Draws(7, torch.arange(rows)).normal("start", (1, 2, 2)).to(dtype)


def oracle(x, method, **options):
    """torchdiffeq from t = 1 to 0, and how often it asked."""
    asked = []

    def right(t, x):
        asked.append(t)
        return field(x, t)

    ends = torch.tensor([1.0, 0.0], dtype=x.dtype)
    return torchdiffeq.odeint(right, x, ends, method=method, **options)[-1], len(asked)


@pytest.mark.parametrize(("rtol", "atol"), [(1e-3, 1e-6), (1e-5, 1e-7), (1e-8, 1e-10)])
def test_each_sample_is_torchdiffeq_alone(rtol, atol):
    """The same controller: what torchdiffeq gives for a batch of one, ours gives in any batch. It
    oversteps the end and interpolates back; ours ends there, so the last step differs."""
    x, evaluate = start(6), Pendulum()
    ours = Dopri5Config(rtol=rtol, atol=atol).build()(evaluate, x, NONE)
    spent = evaluate.evaluations_B
    for row in range(6):
        theirs, calls = oracle(x[row : row + 1], "dopri5", rtol=rtol, atol=atol)
        exact, _ = oracle(x[row : row + 1], "dopri8", rtol=1e-12, atol=1e-12)
        off = (ours[row : row + 1] - exact).abs().max().item()
        assert off < 2 * (theirs - exact).abs().max().item() + 10 * rtol
        assert abs(spent[row].item() - calls) <= 18  # three steps


def test_evaluations_are_counted_for_every_sample():
    """Two to begin with, six for each attempt; calls are those of the slowest sample."""
    x, evaluate = start(16), Pendulum()
    Dopri5Config().build()(evaluate, x, NONE)
    spent = evaluate.evaluations_B
    assert ((spent - 2) % 6 == 0).all() and spent.min() < spent.max()
    assert evaluate.calls == spent.max()
    assert sum(len(rows) for rows in evaluate.evaluated) == spent.sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_does_not_depend_on_its_batch_mates(dtype):
    x = start(12, dtype)
    x[5] *= 30
    sampler = Dopri5Config().build()
    whole = Pendulum()
    together = sampler(whole, x, NONE)
    for row in (0, 5, 11):
        alone = Pendulum()
        torch.testing.assert_close(
            sampler(alone, x[row : row + 1], NONE)[0], together[row], atol=1e-4, rtol=1e-4
        )
        assert alone.calls == whole.evaluations_B[row]


def test_gaussian_data():
    """The flow maps x to S x; the error follows the tolerance."""
    x = start(8)
    errors = []
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9):
        evaluate = GaussianEvaluation(S)
        out = Dopri5Config(rtol=rtol, atol=rtol).build()(evaluate, x, NONE)
        errors.append((out - S * x).abs().max().item())
    assert errors[0] < 0.05 and errors[1] < 1e-4 and errors[2] < 1e-6
    assert all(fine < coarse / 10 for coarse, fine in pairwise(errors))


def test_the_whole_range_is_integrated_and_nothing_beyond():
    class Narrow(AffinePath):
        def coefficients(self, t, /):
            return Coefficients(1 - t, t, -torch.ones_like(t), torch.ones_like(t))

        def limits(self):
            return super().limits()._replace(low=0.1, high=0.8)

    class Constant(GaussianEvaluation):
        times: list[float] = []  # noqa: RUF012

        def __call__(self, x, t_B, span_B=None, /):
            self.times.extend(t_B.tolist())
            return Narrow().fields(torch.ones_like(x), x, t_B)

        def select(self, rows_B, /):
            return self

    evaluate = Constant()
    evaluate.interpolant = Narrow()
    x = start(2)
    torch.testing.assert_close(Dopri5Config().build()(evaluate, x, NONE), x - 0.7)
    assert min(evaluate.times) == pytest.approx(0.1, abs=1e-12) and max(evaluate.times) == 0.8


def test_a_sample_that_never_arrives_is_reported():
    with pytest.raises(RuntimeError, match=r"2 samples are not at t = 0.* after 3 steps"):
        Dopri5Config(rtol=1e-9, atol=1e-12, max_steps=3).build()(Pendulum(), start(2), NONE)


@pytest.mark.parametrize("steps", [3, 10])
def test_rk4_is_torchdiffeqs(steps):
    x, evaluate = start(3), Pendulum()
    ours = Rk4Config(steps=steps).build()(evaluate, x, NONE)
    theirs, calls = oracle(x, "rk4", options={"step_size": 1 / steps})
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    assert evaluate.calls == calls == 4 * steps == Rk4Config(steps=steps).evaluations


@pytest.mark.parametrize("shift", [1.0, 0.5])
def test_rk4_is_of_fourth_order(shift):
    x, errors = start(4), []
    for steps in (160, 320, 640):
        out = Rk4Config(steps=steps, shift=shift).build()(GaussianEvaluation(S), x, NONE)
        errors.append((out - S * x).abs().max().item())
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rtol": 0.0}, "'rtol' must be > 0"), ({"max_steps": 0}, "'max_steps' must be >= 1")],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Dopri5Config(**options)
