"""The velocity-direction term against NumPy in float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from genmem.contracts import Facts, Prediction
from genmem.testing import check_objective
from genmem_velocity import DirectionConfig

FACTS = Facts(sample_shape=(4, 3, 5), output_channels=4)


def run(output: Tensor, target: Tensor, **options: object) -> Tensor:
    step = SimpleNamespace(prediction=Prediction(output, {}), target=target)
    return DirectionConfig(**options).build(FACTS)(step).value


def normal(channels: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, channels, 3, 5, generator=generator, dtype=torch.float64)


def cosines(a: np.ndarray, b: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))


@pytest.mark.parametrize(("over", "axis"), [("channels", 1), ("sample", (1, 2, 3))])
def test_value_and_gradient(over, axis):
    v, u = normal().requires_grad_(), normal(seed=1)
    value = run(v, u, over=over)
    a, b = v.detach().numpy(), u.numpy()
    assert value.item() == pytest.approx(1 - cosines(a, b, axis).mean(), rel=1e-12)
    value.backward()
    other = normal().requires_grad_()
    (1 - functional.cosine_similarity(*_flat(over, other, u), dim=1, eps=1e-8)).mean().backward()
    torch.testing.assert_close(v.grad, other.grad, atol=1e-14, rtol=1e-10)
    # Only the direction counts.
    assert run(7 * normal(), u, over=over).item() == pytest.approx(value.item(), rel=1e-12)
    assert run(u, u, over=over).item() == pytest.approx(0, abs=1e-12)
    assert run(-u, u, over=over).item() == pytest.approx(2)


def _flat(over: str, *parts: Tensor) -> tuple[Tensor, ...]:
    return parts if over == "channels" else tuple(part.flatten(1) for part in parts)


def test_a_learned_variance_is_left_out():
    v, u = normal(8), normal(seed=1)
    assert torch.equal(run(v, u), run(v[:, :4], u))


def test_an_output_of_zeros_does_not_explode():
    """As a network's is that begins with a zero last layer; by the usual 1e-8 the slope is 1e8."""
    v = torch.zeros(6, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    run(v, normal()).backward()
    bound = 1 / (6 * 15 * 1e-2 * 2)
    torch.testing.assert_close(v.grad.norm(dim=1), torch.full((6, 3, 5), bound, dtype=torch.float64))
    usual = torch.zeros_like(v, requires_grad=True)
    (1 - functional.cosine_similarity(usual, normal(), dim=1)).mean().backward()
    assert usual.grad.norm(dim=1).min() > 1e5 * bound


def test_one_channel_has_no_direction():
    v = normal(1).requires_grad_()
    (1 - functional.cosine_similarity(v, normal(1, seed=1), dim=1)).mean().backward()
    torch.testing.assert_close(v.grad, torch.zeros_like(v), atol=1e-12, rtol=0)
    grey = Facts(sample_shape=(1, 8, 8), output_channels=1)
    with pytest.raises(ValueError, match=r'samples have 1 channel.*take over = "sample"'):
        DirectionConfig().build(grey)
    DirectionConfig(over="sample").build(grey)


def test_half_precision_is_widened_and_autocast_left():
    v, u = normal(), normal(seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(v.bfloat16(), u)
    assert found.dtype == torch.float32
    assert torch.equal(found, run(v.bfloat16().float(), u))


@pytest.mark.parametrize("over", ["channels", "sample"])
def test_contract(over):
    check_objective(DirectionConfig(over=over))
