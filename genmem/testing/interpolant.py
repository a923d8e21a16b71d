"""Contract check of an interpolant, in float64.

Shapes: B batch, C H W sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import Conditioning, InterpolantConfig, Prediction
from genmem.draws import Draws

BATCH, SHAPE = 16, (2, 4, 4)


def check_interpolant(config: InterpolantConfig, *, endpoint_tolerance: float = 5e-2) -> None:
    """Build the process and hold it to its contract.

    Checks that t = 0 is data and t = 1 noise (nearly: a last step of DDPM keeps some data), that
    times are drawn in [0, 1] row by row and the sampler's range lies there too, that the regression
    calls `predict` and gives one finite loss a sample with a gradient, and, on an
    affine path, that the coefficients' derivatives are right.

    Raises:
        AssertionError: What does not hold.
    """
    process = config.build()
    draws = Draws(0, torch.arange(BATCH))
    x, noise = (draws.normal(name, SHAPE).double() for name in ("x", "noise"))
    for t, end, name in ((0.0, x, "data"), (1.0, noise, "noise")):
        gap = (process.mix(x, noise, torch.full((BATCH,), t, dtype=torch.float64)) - end).abs().max().item()
        assert gap <= endpoint_tolerance, f"at t = {t:g} the mix must be {name}; it is off by {gap:.3g}"
    times = process.times(draws)
    assert len(times.t) == BATCH and bool(((times.t >= 0) & (times.t <= 1)).all()), "times must lie in [0, 1]"
    alone = process.times(Draws(0, torch.arange(3, 4))).t
    assert torch.equal(alone, times.t[3:4]), "a row's time must depend on its own identity alone"
    low, high, steps = process.limits()
    assert 0 <= low < high <= 1 and steps != 0, f"limits must lie in 0 … 1, got {low} … {high}"
    _check_regression(config, x.float(), noise.float())
    _check_derivatives(config)


def _check_regression(config: InterpolantConfig, x: Tensor, noise: Tensor) -> None:
    process = config.build()
    scale = torch.ones((), requires_grad=True)
    channels = config.output_channels(SHAPE[0])
    calls = []

    def predict(x_t: Tensor, t: Tensor, cond: Conditioning) -> Prediction:
        calls.append(t)
        return Prediction(scale * x_t.repeat(1, -(-channels // SHAPE[0]), 1, 1)[:, :channels], {})

    cond = Conditioning(drop_B=torch.zeros(BATCH, dtype=torch.bool))
    result = process.regress(predict, x, noise, process.times(Draws(0, torch.arange(BATCH))), cond)
    assert calls, "regress must reach the network through predict"
    assert tuple(result.loss_B.shape) == (BATCH,), (
        f"loss_B must be ({BATCH},), got {tuple(result.loss_B.shape)}"
    )
    assert bool(result.loss_B.isfinite().all()), "the loss must be finite"
    result.loss_B.mean().backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None and bool(scale.grad.isfinite()), "the loss must have a finite gradient"


def _check_derivatives(config: InterpolantConfig, step: float = 1e-6) -> None:
    process = config.build()
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    try:
        at, before, after = (process.coefficients(t + shift) for shift in (0.0, -step, step))
    except NotImplementedError:
        return
    for name, derivative in (("alpha", at.d_alpha), ("sigma", at.d_sigma)):
        numerical = (getattr(after, name) - getattr(before, name)) / (2 * step)
        gap = (numerical - derivative).abs().max().item()
        assert gap < 1e-5 * (1 + derivative.abs().max().item()), f"d_{name} is not the derivative of {name}"
