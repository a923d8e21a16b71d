"""The four forms and their twins against definitions in float64, bounds, invariances, fp32 numerics."""

from __future__ import annotations

import math

import pytest
import torch
from dispersive_parts import FORMS, define, dispersive, run, states
from torch import Tensor

from genmem_dispersive import forms
from genmem_dispersive.distances import standardise
from genmem_dispersive.forms import Cosine, Covariance, Hinge, InfoNCE

BY_DISTANCE = ("infonce-l2", "infonce-cos", "hinge")
OPTIONS = {"infonce-l2": {"temperature": 0.5}, "infonce-cos": {"temperature": 0.3}, "hinge": {"margin": 1.5}}


def expect(form: str, z: Tensor, p: Tensor | None = None) -> Tensor:
    options = {"tau" if key == "temperature" else key: value for key, value in OPTIONS.get(form, {}).items()}
    return define(form, z, p, **options)


def of(form: str, **options: object):
    return dispersive(form=form, **({"group": 7} | OPTIONS.get(form, {}) | options))


def value_of(form: str, z: Tensor) -> Tensor:
    return run(of(form, group=len(z)), z).value


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("pool", ["none", "mean"])
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_follow_the_definition(form, pool, scale):
    ours, plain = (states(7, scale).requires_grad_() for _ in range(2))
    result = run(of(form, pool=pool), ours)
    expected = expect(form, plain.mean(1) if pool == "mean" else plain)
    torch.testing.assert_close(result.value, expected, atol=1e-12, rtol=1e-10)
    result.value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize("apart", [0.01, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_twin_and_its_gradient_in_both_views_follow_the_definition(form, apart):
    pairs = []
    for _ in range(2):
        z = states(7).requires_grad_()
        pairs.append((z, (z.detach() + apart * states(7, seed=1)).requires_grad_()))
    result = run(of(form, positive="independent"), *pairs[0])
    expected = expect(form, *pairs[1])
    torch.testing.assert_close(result.value, expected, atol=1e-12, rtol=1e-10)
    result.value.backward()
    expected.backward()
    for ours, plain in zip(*pairs, strict=True):
        assert plain.grad.abs().sum() > 0
        torch.testing.assert_close(ours.grad, plain.grad, atol=1e-12, rtol=1e-8)
    gap = (pairs[0][0] - pairs[0][1]).detach().square().mean()
    torch.testing.assert_close(result.metrics["positive_distance"], gap)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("positive", ["none", "independent"])
def test_groups_are_a_mean(form, positive):
    views = states(12), states(12, seed=1)
    halves = [[view[rows] for view in views] for rows in (slice(0, 6), slice(6, 12))]
    together = run(of(form, group=6, positive=positive), *views)
    apart = [run(of(form, group=6, positive=positive), *half) for half in halves]
    torch.testing.assert_close(together.value, (apart[0].value + apart[1].value) / 2)
    for name in together.metrics.keys() - {"rms"}:
        mean = (apart[0].metrics[name] + apart[1].metrics[name]) / 2
        torch.testing.assert_close(together.metrics[name], mean)


@pytest.mark.parametrize("form", ["infonce-l2", "infonce-cos", "hinge"])
def test_a_twin_of_equal_views_only_repels(form):
    """Its positive is worth D(z, z): 0, or -1 for the cosine; Jensen puts its InfoNCE below the other."""
    z = states(7)
    twin, plain = run(of(form, positive="restricted"), z, z).value, run(of(form), z).value
    if form == "hinge":
        torch.testing.assert_close(twin, plain)
    else:
        positive = -1 / 0.3 if form == "infonce-cos" else 0.0
        assert twin - positive < plain


@pytest.mark.parametrize("form", FORMS)
def test_no_net_force(form):
    """A common shift costs nothing, so gradients sum to 0; for the cosine they are at right angles to z."""
    z = states(7).requires_grad_()
    value_of(form, z).backward()
    force = (z * z.grad).flatten(1).sum(1) if form == "infonce-cos" else z.grad.sum(0)
    torch.testing.assert_close(force, torch.zeros_like(force), atol=1e-14, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_invariances(form):
    z, value = states(), value_of(form, states())
    rotation = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]
    scale_M, scale_N = 2 ** states(1), 2 ** states(16, tokens=1, width=1)
    shifted = z + 3 * states(1, seed=1)
    same = {"order": z.flip(0)}
    other = {}
    (other if form == "infonce-cos" else same)["shift"] = shifted
    (other if form == "covariance" else same)["rotation"] = (z.flatten(1) @ rotation).view_as(z)
    (same if form == "infonce-cos" else other)["scale of a sample"] = z * scale_N
    (same if form == "covariance" else other)["scale of a dimension"] = z * scale_M
    for changed in same.values():
        torch.testing.assert_close(value_of(form, changed), value)
    for changed in other.values():
        assert not torch.isclose(value_of(form, changed), value, rtol=1e-6)


def simplex(count: int) -> Tensor:
    """(N, N) unit vectors, every two at a cosine of -1 / (N - 1)."""
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    return centred / centred.norm(dim=1, keepdim=True)


def hadamard(count: int) -> Tensor:
    """(N, N - 1): columns of ±1, centred and at right angles."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < count:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix[:, 1:]


FLOORS = [
    ("infonce-l2", 1e3 * simplex(8), -math.log(8)),
    ("infonce-cos", simplex(8), math.log((math.exp(1 / 0.3) + 7 * math.exp(-1 / 2.1)) / 8)),
    ("hinge", 10 * simplex(8), 0.0),
    ("covariance", hadamard(8), 1 / 7),
    ("covariance", hadamard(8)[:, :4], 1 / 4),
    ("covariance", hadamard(8).repeat(1, 3), 1 / 7),
]


@pytest.mark.parametrize(("form", "z", "floor"), FLOORS)
def test_floors_are_reached_and_never_passed(form, z, floor):
    at_floor = run(of(form, group=8), z[:, None])
    assert at_floor.value.item() == pytest.approx(floor, abs=1e-12)
    assert at_floor.metrics["above_floor"].item() == pytest.approx(0, abs=1e-12)
    for seed in range(20):
        other = states(8, seed=seed, tokens=1, width=z.shape[1])
        assert run(of(form, group=8), other).metrics["above_floor"] > 0


@pytest.mark.parametrize(
    ("form", "ceiling"), [("infonce-l2", 0.0), ("infonce-cos", 1 / 0.3), ("hinge", 1.5**2), ("covariance", 1)]
)
def test_a_collapse_reaches_the_ceiling(form, ceiling):
    """All states equal; for covariance all dimensions."""
    z = states(16, width=1).expand(16, 4, 5)[:, :1] if form == "covariance" else states(1).expand(16, 4, 5)
    assert value_of(form, z).item() == pytest.approx(ceiling, abs=1e-10)


@pytest.mark.parametrize("form", ["infonce-l2", "infonce-cos", "hinge"])
def test_the_floor_of_a_twin_is_reached_by_equal_views_far_apart(form):
    z = (10 * simplex(8))[:, None]
    assert run(of(form, group=8, positive="independent"), 1e2 * z, 1e2 * z).metrics[
        "above_floor"
    ].item() == pytest.approx(0, abs=1e-12)
    for seed in range(20):
        views = (states(8, seed=seed), states(8, seed=seed + 100))
        assert run(of(form, group=8, positive="independent"), *views).metrics["above_floor"] > 0


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_on_the_sphere_the_cosine_is_the_distance_at_half_the_temperature(temperature):
    z = states(16)
    z = z * math.sqrt(20) / z.flatten(1).norm(dim=1).view(-1, 1, 1)
    far, near = (
        run(dispersive(form=form, temperature=tau), z).value
        for form, tau in (("infonce-l2", temperature), ("infonce-cos", temperature / 2))
    )
    torch.testing.assert_close(far, near - 2 / temperature)


@pytest.mark.parametrize("width", [10, 20000])
def test_covariance_by_grams_is_that_by_covariances(width):
    """‖ZᵀZ‖ = ‖ZZᵀ‖. Flattened states are at the floor from the start: normal ones within 1 %."""
    z = states(32, tokens=1, width=width)
    ours = Covariance().disperse(z.transpose(0, 1))
    if width == 10:
        torch.testing.assert_close(ours, torch.corrcoef(z[:, 0].T).square().mean())
        assert ours > 1.1 * Covariance().floor(32, 10, twin=False)
    else:
        assert 1 / 31 < ours < 1.01 / 31


def test_a_dimension_that_is_constant_counts_nothing():
    z = states(16).clone()
    z[..., 0] = 7.0 + 1e-6 * z[..., 0]
    z.requires_grad_()
    result = run(of("covariance", group=16), z)
    live = z.detach()[..., 1:]
    torch.testing.assert_close(
        result.value.detach(), define("covariance", live) * (16 / 20) ** 2, atol=1e-6, rtol=0
    )
    result.value.backward()
    assert z.grad.isfinite().all()


def errors_in_fp32(form: str) -> tuple[float, float]:
    """Relative, of value and gradient, under a common offset of deviation 20 on states of 0.3."""
    offset = 20 * states(1, seed=1, tokens=1, width=65536)
    z = (offset + 0.3 * states(16, tokens=1, width=65536)).float().transpose(0, 1).requires_grad_()
    exact = z.detach().double().requires_grad_()
    makers = {"infonce-l2": InfoNCE(0.1), "infonce-cos": Cosine(2e-4), "hinge": Hinge(0.2)}
    loss = makers.get(form, Covariance())
    ours, expected = loss.disperse(z), loss.disperse(exact)
    torch.autograd.backward([ours, expected])
    return (
        abs(ours.item() / expected.item() - 1),
        ((z.grad.double() - exact.grad).norm() / exact.grad.norm()).item(),
    )


@pytest.mark.parametrize("form", FORMS)
def test_numerics_survive_a_common_offset(form):
    value, gradient = errors_in_fp32(form)
    assert value < 1e-5
    assert gradient < 5e-5


@pytest.mark.parametrize("form", BY_DISTANCE)
def test_without_the_centring_they_do_not(form, monkeypatch):
    """The wrong variant: a Gram in which what the states share was left."""

    def plain(z: Tensor) -> Tensor:
        gram = z @ z.transpose(1, 2) / z.shape[-1]
        own = gram.diagonal(dim1=1, dim2=2)
        return (own[:, :, None] + own[:, None] - 2 * gram).clamp(min=0)

    monkeypatch.setattr(forms, "square_distances", plain)
    assert max(errors_in_fp32(form)) > 5e-4


def test_standardised_dimensions_have_mean_0_and_variance_1():
    z = standardise(states(16, 5.0).flatten(1)[None] + 3)[0]
    torch.testing.assert_close(z.mean(0), torch.zeros(20, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.var(0), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("positive", ["none", "independent"])
def test_fp32_under_autocast_and_from_bf16(form, positive):
    z, p = (states(7, seed=seed).float() for seed in (0, 1))
    exact = run(of(form, positive=positive), z, p).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(of(form, positive=positive), z, p).value, exact)
        rounded = run(of(form, positive=positive), z.bfloat16(), p.bfloat16()).value
    assert rounded.dtype == torch.float32
    assert torch.equal(
        rounded, run(of(form, positive=positive), z.bfloat16().float(), p.bfloat16().float()).value
    )


@pytest.mark.parametrize("form", FORMS)
def test_states_that_are_all_zero_give_finite_gradients(form):
    z = torch.zeros(7, 4, 5).requires_grad_()
    run(of(form), z).value.backward()
    assert z.grad.isfinite().all()
