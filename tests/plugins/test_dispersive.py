"""InfoNCE-ℓ2, the paper's own, against its two-line definition and published figures."""

import math

import pytest
import torch
from dispersive_parts import dispersive, run, states
from torch import Tensor

from genmem_dispersive.distances import square_distances


def define(z_BLD: Tensor, temperature: float) -> Tensor:
    """log mean_ij exp(-‖z_i - z_j‖² / (M τ)), literally."""
    z = z_BLD.double().flatten(1)
    return (-(z[:, None] - z[None]).square().mean(-1) / temperature).exp().mean().log()


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_value_and_gradient_follow_the_definition(temperature, scale):
    config = dispersive(group=16, temperature=temperature)
    ours, plain = (states(scale=scale).requires_grad_() for _ in range(2))
    result, expected = run(config, ours), define(plain, temperature)
    torch.testing.assert_close(result.value, expected, atol=1e-10, rtol=1e-10)
    assert -math.log(16) - 1e-12 <= result.value <= 0
    result.value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-12, rtol=1e-8)
    torch.testing.assert_close(ours.grad.sum(0), torch.zeros(4, 5, dtype=torch.float64), atol=1e-14, rtol=0)


def test_bounds_are_reached():
    together = states(1).expand(16, 4, 5)
    assert run(dispersive(), together).value.item() == pytest.approx(0, abs=1e-12)
    apart = run(dispersive(), states(scale=1e3))
    assert apart.value.item() == pytest.approx(-math.log(16))
    assert apart.metrics["above_floor"].item() == pytest.approx(0, abs=1e-12)


def test_invariances():
    """Order, a common offset and a rotation change nothing; scale z by c is temperature by c²."""
    z = states()
    value = run(dispersive(), z).value
    rotation = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]
    for changed in (z.flip(0), z + 3 * states(1, seed=1), (z.flatten(1) @ rotation).view_as(z)):
        torch.testing.assert_close(run(dispersive(), changed).value, value)
    torch.testing.assert_close(run(dispersive(temperature=0.5 * 9), 3 * z).value, value)


# Batch, deviation: value and slope in log deviation, as the reference prints them for τ = 1.
# Last, measured on samples: the slope without the diagonal, which does not end.
TABLE = [
    (16, 1, "-1.66", "-2.7", -4.0),
    (16, 2, "-2.767", "-0.08", -15.9),
    (16, 3, "-2.7726", "-0.00001", -35),
    (32, 2, "-3.455", "-0.17", -15.9),
    (256, 2, "-5.46", "-1.27", -15.9),
]


@pytest.mark.parametrize(("batch", "std", "value", "slope", "endless"), TABLE)
def test_table_of_the_built_in_dead_zone(batch, std, value, slope, endless):
    """Features N(0, s²) in many dimensions: every distance is 2 s², which √M times the unit vectors have."""
    z = math.sqrt(batch) * torch.eye(batch, dtype=torch.float64).view(batch, 1, batch)
    log_std = torch.tensor(math.log(std), dtype=torch.float64, requires_grad=True)
    result = run(dispersive(group=batch, temperature=1.0), log_std.exp() * z)
    result.value.backward()
    far = (batch - 1) * math.exp(-2 * std**2)
    assert result.value.item() == pytest.approx(math.log((1 + far) / batch), abs=1e-12)
    assert log_std.grad.item() == pytest.approx(-4 * std**2 * far / (1 + far), rel=1e-9)
    for ours, printed in ((result.value.item(), value), (log_std.grad.item(), slope)):
        assert ours == pytest.approx(float(printed), abs=10.0 ** -len(printed.split(".")[1]))
    logits = -square_distances((log_std.exp() * z).transpose(0, 1))[0]
    without = logits[~torch.eye(batch, dtype=torch.bool)].logsumexp(0)
    (slope_without,) = torch.autograd.grad(without, log_std)
    assert slope_without.item() == pytest.approx(endless, rel=0.03)


def test_table_holds_for_samples():
    """Normal numbers, not their limit: the printed values to 2 %."""
    for batch, std, value, *_ in TABLE:
        z = states(batch, std, tokens=256, width=64)
        assert run(dispersive(group=batch, temperature=1.0), z).value == pytest.approx(float(value), rel=0.02)


def test_numerics_survive_a_common_offset():
    """Offset of deviation 20 on samples of deviation 0.3: 2e-7 centred, 7e-3 by the plain Gram."""
    generator = torch.Generator().manual_seed(0)
    offset = 20 * torch.randn(1, 65536, generator=generator)
    z = (offset + 0.3 * torch.randn(16, 65536, generator=generator)).float()
    exact = (z.double()[:, None] - z.double()[None]).square().mean(-1)
    off_diagonal = ~torch.eye(16, dtype=torch.bool)

    def error(distance: Tensor) -> float:
        return ((distance.double() - exact).abs() / exact)[off_diagonal].max().item()

    ours = square_distances(z[None])[0]
    gram = z @ z.T / z.shape[1]
    plain = gram.diagonal()[:, None] + gram.diagonal()[None] - 2 * gram
    assert error(ours) < 1e-5
    assert error(plain) > 1e-3
    assert torch.equal(ours.diagonal(), torch.zeros(16))


def test_groups_equal_separate_batches():
    z = states(12)
    grouped = run(dispersive(group=4), z)
    separate = torch.stack([run(dispersive(group=4), part).value for part in z.split(4)])
    torch.testing.assert_close(grouped.value, separate.mean())
    assert not torch.isclose(grouped.value, define(z, 0.5))
    torch.testing.assert_close(run(dispersive(group="global"), z).value, define(z, 0.5))


def test_metrics():
    z = states(32, scale=0.7).requires_grad_()
    result = run(dispersive(), z)
    assert set(result.metrics) == {"above_floor", "rms", "distance"}
    torch.testing.assert_close(result.metrics["above_floor"], (result.value + math.log(16)).detach())
    torch.testing.assert_close(result.metrics["rms"], z.detach().square().mean().sqrt())
    pairs = torch.stack([torch.pdist(part.detach().flatten(1)) for part in z.split(16)])
    torch.testing.assert_close(result.metrics["distance"], pairs.square().mean() / 20)
    assert not any(value.requires_grad for value in result.metrics.values())


def test_fp32_under_autocast_and_from_bf16():
    z = states().float()
    exact = run(dispersive(), z).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(dispersive(), z).value, exact)
        rounded = run(dispersive(), z.bfloat16())
    assert rounded.value.dtype == torch.float32
    torch.testing.assert_close(rounded.value, run(dispersive(), z.bfloat16().float()).value, atol=0, rtol=0)
