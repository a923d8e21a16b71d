"""The dispersive loss against its two-line definition in float64, its bounds, and published figures."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from genmem.contracts import Facts, Prediction
from genmem.testing import check_objective
from genmem_dispersive import DispersiveConfig
from genmem_dispersive.dispersive import square_distances

FACTS = Facts(sample_shape=(1, 8, 8), output_channels=1, tap_widths=dict.fromkeys(range(1, 13), 5))


def define(z_BLD: Tensor, temperature: float) -> Tensor:
    """log mean_ij exp(-‖z_i - z_j‖² / (M τ)), literally."""
    z = z_BLD.double().flatten(1)
    return (-(z[:, None] - z[None]).square().mean(-1) / temperature).exp().mean().log()


def run(config: DispersiveConfig, z_BLD: Tensor, facts: Facts = FACTS):
    step = SimpleNamespace(prediction=Prediction(torch.empty(0), {config.taps(12)[0]: z_BLD}))
    return config.build(facts)(step)


def dispersive(**options: object) -> DispersiveConfig:
    return DispersiveConfig(**({"tap": 3} | options))


def features(
    batch: int = 16, dtype: torch.dtype = torch.float64, scale: float = 1.0, seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, 4, 5, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_value_and_gradient_follow_the_definition(temperature, scale):
    config = dispersive(group=16, temperature=temperature)
    ours, plain = (features(scale=scale).requires_grad_() for _ in range(2))
    result, expected = run(config, ours), define(plain, temperature)
    torch.testing.assert_close(result.value, expected, atol=1e-10, rtol=1e-10)
    assert -math.log(16) - 1e-12 <= result.value <= 0
    result.value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-12, rtol=1e-8)
    torch.testing.assert_close(ours.grad.sum(0), torch.zeros(4, 5, dtype=torch.float64), atol=1e-14, rtol=0)


def test_bounds_are_reached():
    together = features(1).expand(16, 4, 5)
    assert run(dispersive(), together).value.item() == pytest.approx(0, abs=1e-12)
    apart = run(dispersive(), features(scale=1e3))
    assert apart.value.item() == pytest.approx(-math.log(16))
    assert apart.metrics["above_floor"].item() == pytest.approx(0, abs=1e-12)


def test_invariances():
    """Order, a common offset and a rotation change nothing; scale z by c is temperature by c²."""
    z = features()
    value = run(dispersive(), z).value
    rotation = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]
    for changed in (z.flip(0), z + 3 * features(1, seed=1), (z.flatten(1) @ rotation).view_as(z)):
        torch.testing.assert_close(run(dispersive(), changed).value, value)
    torch.testing.assert_close(run(dispersive(temperature=0.5 * 9), 3 * z).value, value)


# Batch, deviation: value and slope in log deviation, as the reference prints them for τ = 1.
TABLE = [
    (16, 1, "-1.66", "-2.7"),
    (16, 2, "-2.767", "-0.08"),
    (16, 3, "-2.7726", "-0.00001"),
    (32, 2, "-3.455", "-0.17"),
    (256, 2, "-5.46", "-1.27"),
]


@pytest.mark.parametrize(("batch", "std", "value", "slope"), TABLE)
def test_table_of_the_built_in_dead_zone(batch, std, value, slope):
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
    z = features(12)
    grouped = run(dispersive(group=4), z)
    separate = torch.stack([run(dispersive(group=4), part).value for part in z.split(4)])
    torch.testing.assert_close(grouped.value, separate.mean())
    assert not torch.isclose(grouped.value, define(z, 0.5))
    torch.testing.assert_close(run(dispersive(group="global"), z).value, define(z, 0.5))


def test_metrics():
    z = features(32, scale=0.7).requires_grad_()
    result = run(dispersive(), z)
    assert set(result.metrics) == {"above_floor", "rms"}
    torch.testing.assert_close(result.metrics["above_floor"], (result.value + math.log(16)).detach())
    torch.testing.assert_close(result.metrics["rms"], z.detach().square().mean().sqrt())
    assert not any(value.requires_grad for value in result.metrics.values())


def test_fp32_under_autocast_and_from_bf16():
    z = features(dtype=torch.float32)
    exact = run(dispersive(), z).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(dispersive(), z).value, exact)
        rounded = run(dispersive(), z.bfloat16())
    assert rounded.value.dtype == torch.float32
    torch.testing.assert_close(rounded.value, run(dispersive(), z.bfloat16().float()).value, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("options", "resolved"),
    [
        ({}, (16, 0.5)),
        ({"preset": "torch"}, (32, 1.0)),
        ({"group": 8}, (8, 0.5)),
        ({"preset": "torch", "temperature": 0.25}, (32, 0.25)),
        ({"group": "global"}, ("global", 0.5)),
    ],
)
def test_presets_and_what_overrides_them(options, resolved):
    config = dispersive(**options)
    assert config.resolved == resolved
    assert config.coupling == resolved[0]


@pytest.mark.parametrize("group", [1, 0, -16])
def test_group_too_small_is_refused(group):
    with pytest.raises(ValueError, match=rf"group = {group} leaves fewer than 2 .* a memory of negatives"):
        dispersive(group=group)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="'temperature' must be > 0"):
        dispersive(temperature=0.0)
    with pytest.raises(ValueError, match="give either tap"):
        DispersiveConfig()
    one = Facts(sample_shape=(1, 8, 8), output_channels=1, batch=1)
    with pytest.raises(ValueError, match='group = "global" with a global batch of 1 leaves fewer than 2'):
        dispersive(group="global").build(one)
    forty = Facts(sample_shape=(1, 8, 8), output_channels=1, batch=40)
    with pytest.raises(ValueError, match="a global batch of 40 is not whole groups of 16"):
        dispersive().build(forty)
    with pytest.raises(ValueError, match="a micro-batch of 24 is not whole groups of 16"):
        run(dispersive(), features(24))


def test_tap_fraction_finds_the_paper_block():
    config = DispersiveConfig(tap_fraction=0.25)
    assert run(config, features()).value < 0
    assert config.build(FACTS).tap == 3


@pytest.mark.parametrize("options", [{}, {"preset": "torch"}, {"group": "global"}], ids=str)
def test_contract(options):
    check_objective(dispersive(**options))
