"""Contract check of an objective.

Shapes: B batch, C H W sample, L tokens, D width, E memory width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genmem.contracts import (
    Batch,
    Coefficients,
    Conditioning,
    Facts,
    MemoryStore,
    Objective,
    ObjectiveConfig,
    Prediction,
    Step,
)
from genmem.draws import Draws
from genmem.paths import AffinePath
from genmem.testing.memory import ListMemory

SHAPE, DEPTH, TOKENS, WIDTH, MEMORY_WIDTH = (2, 4, 4), 4, 4, 16, 8


class StraightPath(AffinePath):
    """x_t = (1 - t)·x + t·ε."""

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """α = 1 - t, σ = t."""
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)


def check_objective(
    config: ObjectiveConfig, *, batch: int = 32, features: Mapping[str, Tensor] | None = None
) -> None:
    """Build the objective and hold it to its contract, with brute-force memories where it needs any.

    Checks that value and metrics are finite fp32 scalars for fp32 and bf16 hidden states, that a
    gradient reaches the network, and that the state dict round-trips.

    Args:
        config: Its settings.
        batch: Samples; must suit its coupling.
        features: Per-sample features it asks of the shards, {"name": (B, …)}.

    Raises:
        AssertionError: What does not hold.
    """
    facts = _facts(config, batch, features or {})
    module = config.build(facts)
    assert isinstance(module, nn.Module), "an objective must be a torch.nn.Module"
    for dtype in (torch.float32, torch.bfloat16):
        step = example_step(config, batch=batch, features=features, dtype=dtype)
        result = module(step)
        assert isinstance(result, Objective), f"forward must return an Objective, got {type(result).__name__}"
        _check_scalars(result, dtype)
        result.value.backward()  # type: ignore[no-untyped-call]
        seen = [step.prediction.output, *step.prediction.hidden.values()]
        reached = any(part.grad is not None and bool(part.grad.abs().sum() > 0) for part in seen)
        assert reached, "no gradient reaches the network's output or taps"
    again = config.build(facts)
    again.load_state_dict(module.state_dict())


def example_step(
    config: ObjectiveConfig,
    *,
    batch: int = 32,
    features: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Step:
    """A step of made-up numbers with the taps and memories this objective asks for."""
    draws = Draws(seed, torch.arange(batch))
    x, noise = draws.normal("x", SHAPE), draws.normal("noise", SHAPE)
    path = StraightPath()
    times = path.times(draws)
    hidden = {tap: _leaf(draws, f"tap/{tap}", (TOKENS, WIDTH), dtype) for tap in config.taps(DEPTH)}
    prediction = Prediction(_leaf(draws, "output", SHAPE, dtype), hidden)
    label_B = draws.integers("label", 3)
    zeros = torch.zeros(batch, dtype=torch.int64)
    return Step(
        batch=Batch(x, label_B, torch.arange(batch), zeros, zeros, dict(features or {}), {}),
        x=x,
        noise=noise,
        times=times,
        x_t=path.mix(x, noise, times.t),
        target=path.target(x, noise, times.t),
        cond=Conditioning(label_B=label_B),
        prediction=prediction,
        images_seen=10**9,
        draws=draws,
        memories=_memories(config),
        interpolant=path,
        again=_again(draws, dtype),
    )


def _facts(config: ObjectiveConfig, batch: int, features: Mapping[str, Tensor]) -> Facts:
    return Facts(
        sample_shape=SHAPE,
        output_channels=SHAPE[0],
        num_classes=3,
        num_samples=10_000,
        batch=batch,
        memory_widths=dict.fromkeys(config.needs, MEMORY_WIDTH),
        tap_widths=dict.fromkeys(range(1, DEPTH + 1), WIDTH),
        feature_widths={name: feature.shape[-1] for name, feature in features.items()},
    )


def _memories(config: ObjectiveConfig) -> dict[str, MemoryStore]:
    rows = Draws(7, torch.arange(4096)).normal("rows", (MEMORY_WIDTH,))
    rows = rows / rows.norm(dim=1, keepdim=True)
    return {name: ListMemory(rows, torch.arange(10_000, 14_096)) for name in config.needs}


def _leaf(draws: Draws, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return draws.normal(purpose, shape).to(dtype).requires_grad_()


def _again(draws: Draws, dtype: torch.dtype) -> Any:
    def again(
        x_t: Tensor,
        t: Tensor,
        cond: Conditioning,
        *,
        taps: Any = (),
        until: Any = None,
        weights: Any = "online",
    ) -> Prediction:
        hidden = {tap: _leaf(draws, f"again/{tap}", (TOKENS, WIDTH), dtype) for tap in taps}
        return Prediction(torch.zeros_like(x_t), hidden)

    return again


def _check_scalars(result: Objective, dtype: torch.dtype) -> None:
    for name, value in {"value": result.value, **result.metrics}.items():
        assert value.ndim == 0, f"{name} must be a scalar, got shape {tuple(value.shape)}"
        assert bool(value.isfinite()), f"{name} is not finite for {dtype} hidden states"
    assert result.value.dtype == torch.float32, (
        f"the value must be fp32, got {result.value.dtype} for {dtype} inputs"
    )
