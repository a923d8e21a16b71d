"""Contract checks of a sampler and a guidance, on data whose velocity is known.

For data N(0, s²) on the straight path, x_t ~ N(0, (1-t)²s² + t²) and v = x (t - (1-t)s²) / σ_t².
Shapes: B batch, C H W sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import Conditioning, Fields, GuidanceConfig, SamplerConfig
from genmem.draws import Draws
from genmem.paths import AffineFields
from genmem.testing.objective import StraightPath

DEVIATION, SHAPE, BATCH = 0.5, (1, 4, 4), 512


class GaussianEvaluation:
    """The exact fields of Gaussian data; counts its calls."""

    def __init__(self, deviation: float = DEVIATION) -> None:
        """Data N(0, deviation²)."""
        self.interpolant = StraightPath()
        self.calls = 0
        self._variance = deviation**2

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Velocity, or its average over the span where one is given."""
        self.calls += 1
        t = t_B.to(x.dtype).view(-1, 1, 1, 1)
        velocity = x * (t - (1 - t) * self._variance) / self._spread(t)
        if span_B is not None:
            span = span_B.to(x.dtype).view(-1, 1, 1, 1)
            average = x * (1 - (self._spread(t - span) / self._spread(t)).sqrt()) / span.clamp_min(1e-12)
            velocity = torch.where(span > 0, average, velocity)
        return AffineFields(velocity, x, self.interpolant.coefficients(t))

    def _spread(self, t: Tensor) -> Tensor:
        return (1 - t) ** 2 * self._variance + t**2


def check_sampler(config: SamplerConfig, *, tolerance: float = 0.1) -> None:
    """Hold a sampler to its contract on Gaussian data.

    Checks that it spends the evaluations it announces, reaches the data's deviation within
    `tolerance` (relative), and treats every row by its own identity.

    Raises:
        AssertionError: What does not hold.
    """
    sampler, evaluate = config.build(), GaussianEvaluation()
    draws = Draws(0, torch.arange(BATCH))
    noise = draws.normal("initial-noise", SHAPE)
    out = sampler(evaluate, noise, draws)
    assert out.shape == noise.shape, f"a sampler must keep the shape, got {tuple(out.shape)}"
    if config.evaluations is not None:
        assert evaluate.calls == config.evaluations, (
            f"announced {config.evaluations} evaluations, spent {evaluate.calls}"
        )
    found = out.double().std().item()
    assert abs(found / DEVIATION - 1) < tolerance, (
        f"deviation {found:.3f} after sampling, the data has {DEVIATION}"
    )
    part = Draws(0, torch.arange(3, 6))
    alone = sampler(GaussianEvaluation(), part.normal("initial-noise", SHAPE), part)
    assert torch.allclose(alone, out[3:6], atol=1e-4), "a sample must not depend on its batch mates"


def check_guidance(config: GuidanceConfig) -> None:
    """Hold a guidance to its contract: where both outputs agree it changes nothing.

    Raises:
        AssertionError: What does not hold.
    """
    x, t_B = torch.randn(4, *SHAPE), torch.linspace(0.1, 0.9, 4)

    def output(x: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        return 2.0 * x

    guided = config.build()(output, x, t_B, Conditioning(label_B=torch.zeros(4, dtype=torch.int64)))
    assert torch.allclose(guided, 2.0 * x, atol=1e-5), "guidance between equal outputs must give that output"
