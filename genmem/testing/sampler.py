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
    """The exact fields of Gaussian data; counts its calls, and the evaluations of each row."""

    def __init__(self, deviation: float = DEVIATION) -> None:
        """Data N(0, deviation²)."""
        self.interpolant = StraightPath()
        self.evaluated: list[Tensor] = []
        self._deviation = deviation
        self._variance = deviation**2
        self._rows_B: Tensor | None = None

    @property
    def calls(self) -> int:
        """Calls so far, whatever their size."""
        return len(self.evaluated)

    @property
    def evaluations_B(self) -> Tensor:
        """int64 (B,): evaluations of each row so far."""
        return torch.cat(self.evaluated).bincount()

    def select(self, rows_B: Tensor, /) -> GaussianEvaluation:
        """The same for these rows, on the same count."""
        part = GaussianEvaluation(self._deviation)
        part.evaluated = self.evaluated
        part._rows_B = rows_B if self._rows_B is None else self._rows_B[rows_B]
        return part

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Velocity, or its average over the span where one is given."""
        self.evaluated.append(torch.arange(len(x)) if self._rows_B is None else self._rows_B)
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
    """Hold a guidance to its contract.

    Checks that it changes nothing where both outputs agree, that a row depends on itself alone, that
    the network's rows are those of the batch, and that a learned variance is not guided.

    Raises:
        AssertionError: What does not hold.
    """
    guidance, network = config.build(), _TwoOutputs()
    x, t_B = Draws(0, torch.arange(BATCH)).normal("x", SHAPE), torch.linspace(0.0, 1.0, BATCH)
    cond = Conditioning(label_B=torch.arange(BATCH))
    network.offset = 0.0
    assert torch.allclose(guidance(network, x, t_B, cond)[:, :1], 2.0 * x, atol=1e-5), (
        "guidance between equal outputs must give that output"
    )
    network.offset = 1.0
    guided = guidance(network, x, t_B, cond)
    assert torch.equal(guided[:, 1:], 3.0 * x), "channels beyond a sample's must stay as with condition"
    network.batch = 2
    alone = guidance(network, x[3:5], t_B[3:5], cond.take(torch.arange(3, 5)))
    assert torch.allclose(alone, guided[3:5], atol=1e-5), "a row must not depend on its batch mates"


class _TwoOutputs:
    """A network with a learned variance, that gives something else where the condition is dropped."""

    offset = 0.0
    batch = BATCH

    def __call__(self, x: Tensor, t_B: Tensor, cond: Conditioning, rows_B: Tensor | None = None, /) -> Tensor:
        rows_B = torch.arange(self.batch) if rows_B is None else rows_B
        assert len(rows_B) == len(x), "rows_B must say which row of the batch each row is, where they differ"
        assert cond.label_B is not None and len(cond.label_B) == len(t_B) == len(x), "rows must match"
        dropped = torch.zeros(len(x), dtype=torch.bool) if cond.drop_B is None else cond.drop_B
        shift = self.offset * dropped.view(-1, 1, 1, 1)
        return torch.cat([2.0 * x + shift, 3.0 * x + shift], 1)
