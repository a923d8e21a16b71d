"""REPA against NumPy in float64: cosine, projectors, iREPA's target, SARA's structure."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genmem.contracts import Facts, Prediction
from genmem.recipe import RecipeError, loads
from genmem.testing import check_objective
from genmem_alignment import RepaConfig
from genmem_alignment.projectors import grid_of

BATCH, TOKENS, WIDTH = 5, 16, 7
ENCODERS = {"far": 6, "near": 3}
FACTS = Facts(
    sample_shape=(1, 8, 8),
    output_channels=1,
    tap_widths=dict.fromkeys(range(1, 5), WIDTH),
    feature_widths={f"{name}.tokens": width for name, width in ENCODERS.items()} | {"far": 2},
)


def repa(**options: object) -> RepaConfig:
    return RepaConfig(**({"tap": 2, "encoders": ("far",), "projector_width": 9} | options))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step_of(hidden: Tensor, targets: dict[str, Tensor] | None = None) -> SimpleNamespace:
    if targets is None:
        targets = {f"{n}.tokens": 3 + normal(BATCH, TOKENS, w, seed=w) for n, w in ENCODERS.items()}
    return SimpleNamespace(
        prediction=Prediction(torch.empty(0), {2: hidden}), batch=SimpleNamespace(features=targets)
    )


def built(config: RepaConfig) -> nn.Module:
    """In float64, with biases that are not 0."""
    torch.manual_seed(1)
    module = config.build(FACTS).double()
    for parameter in module.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    return module


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def mlp(module: nn.Module, x: np.ndarray) -> np.ndarray:
    first, second, third = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in list(module)[::2]
    )
    for weight, bias in (first, second):
        x = x @ weight.T + bias
        x = x / (1 + np.exp(-x))
    return x @ third[0].T + third[1]


def convolve(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """3 × 3 over a 4 × 4 grid, one product a tap; a token's number is 4 · row + column."""
    weight, bias = module.convolution.weight.detach().numpy(), module.convolution.bias.detach().numpy()
    padded = np.pad(x.reshape(BATCH, 4, 4, -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + 4, j : j + 4] @ weight[:, :, i, j].T for i in range(3) for j in range(3)]
    return (sum(taps) + bias).reshape(BATCH, 16, -1)


@pytest.mark.parametrize(("kind", "project"), [("mlp", mlp), ("conv", convolve)])
@pytest.mark.parametrize("normalise", [None, 0.0, 0.7])
@pytest.mark.parametrize("structure", [0.0, 0.5])
def test_value_follows_the_definition(kind, project, normalise, structure):
    config = repa(encoders=("far", "near"), projector=kind, normalise=normalise, structure=structure)
    module, step = built(config), step_of(normal(BATCH, TOKENS, WIDTH))
    expected = []
    for encoder, projector in zip(config.encoders, module.projectors, strict=True):
        y = step.batch.features[f"{encoder}.tokens"].numpy()
        if normalise is not None:
            y = (y - normalise * y.mean(1, keepdims=True)) / (y.std(1, keepdims=True) + 1e-6)
        found = project(projector, step.prediction.hidden[2].numpy())
        grams = [cosines(part[:, :, None], part[:, None]) for part in (found, y)]
        expected.append(structure * np.square(grams[0] - grams[1]).mean() - cosines(y, found).mean())
    result = module(step)
    assert result.value.item() == pytest.approx(np.mean(expected), rel=1e-12)
    keys = {f"{part}/{n}" for n in ENCODERS for part in (["cos", "structure"] if structure else ["cos"])}
    assert set(result.metrics) == keys
    assert not any(value.requires_grad for value in result.metrics.values())


def test_the_mean_of_the_target_decides_and_irepa_takes_it_out():
    """Tokens that share a large part: without normalising any constant prediction is nearly right."""
    shared = torch.full((BATCH, TOKENS, 6), 50.0, dtype=torch.float64)
    step = step_of(normal(BATCH, TOKENS, WIDTH), {"far.tokens": shared + normal(BATCH, TOKENS, 6, seed=3)})
    values = {}
    for gamma in (None, 1.0):
        module = built(repa(normalise=gamma))
        nn.init.zeros_(module.projectors[0][4].weight)
        nn.init.ones_(module.projectors[0][4].bias)
        values[gamma] = module(step).value.item()
    assert values[None] < -0.999
    assert abs(values[1.0]) < 0.1


def test_the_cosine_is_taken_over_channels():
    """Scaling single tokens changes nothing; scaling single channels does (over tokens: the reverse)."""
    module, hidden = built(repa()), normal(BATCH, TOKENS, WIDTH)
    target = normal(BATCH, TOKENS, 6, seed=2)
    by_token, by_channel = 1 + normal(BATCH, TOKENS, 1, seed=4).abs(), 1 + normal(1, 1, 6, seed=5).abs()
    plain, tokens, channels = (
        module(step_of(hidden, {"far.tokens": target * scale})).value.item()
        for scale in (1.0, by_token, by_channel)
    )
    assert tokens == pytest.approx(plain, rel=1e-12)
    assert abs(channels - plain) > 1e-3


def test_gradient_reaches_network_and_projector_but_no_target():
    hidden = normal(BATCH, TOKENS, WIDTH).requires_grad_()
    step = step_of(hidden)
    module = built(repa(structure=0.5))
    module(step).value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [hidden, *module.parameters()])
    assert not any(target.requires_grad for target in step.batch.features.values())
    with torch.no_grad():
        slope = (hidden.grad**2).sum().item()
        moved = [module(step_of(hidden + sign * 1e-6 * hidden.grad)).value.item() for sign in (1, -1)]
    assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(("width", "count"), [(768, 7_344_896), (1024, 7_869_184), (1152, 8_131_328)])
def test_the_projector_has_the_published_number_of_parameters(width, count):
    """SiT-B, L, XL with DINOv2-B's 768."""
    facts = Facts(
        sample_shape=(4, 32, 32),
        output_channels=4,
        tap_widths=dict.fromkeys(range(1, 13), width),
        feature_widths={"dino.tokens": 768},
    )
    module = RepaConfig(encoders=("dino",), tap=4).build(facts)
    assert sum(p.numel() for p in module.parameters()) == count
    assert all(not p.any() for p in module.parameters() if p.ndim == 1)


@pytest.mark.parametrize(
    ("tokens", "aspect", "grid"), [(16, 1.0, (4, 4)), (1, 1.0, (1, 1)), (32, 0.5, (4, 8)), (6, 1.5, (3, 2))]
)
def test_the_grid_has_the_shape_of_the_sample(tokens, aspect, grid):
    assert grid_of(tokens, aspect) == grid


@pytest.mark.parametrize(("tokens", "aspect"), [(15, 1.0), (32, 1.0), (16, 0.5)])
def test_tokens_that_are_no_grid_are_refused(tokens, aspect):
    with pytest.raises(ValueError, match=rf"{tokens} tokens are no grid .* take projector = \"mlp\""):
        grid_of(tokens, aspect)


def test_half_precision_is_widened_and_autocast_left():
    config, hidden = repa(), normal(BATCH, TOKENS, WIDTH)
    wide = built(config)(step_of(hidden.bfloat16().double())).value.item()
    module = built(config).float()
    features = {name: value.float() for name, value in step_of(hidden).batch.features.items()}
    exact = module(step_of(hidden.bfloat16().float(), features)).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(step_of(hidden.bfloat16(), features)).value
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
    assert exact.item() == pytest.approx(wide, rel=1e-5)


def test_token_grids_that_do_not_match_are_refused_with_both_sizes():
    step = step_of(normal(BATCH, 4, WIDTH))
    with pytest.raises(ValueError, match=r"has 4 tokens, encoder 'far' gives 16.* or the backbone 16"):
        built(repa())(step)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="encoders names different ones"):
        repa(encoders=())
    with pytest.raises(ValueError, match="encoders names different ones"):
        repa(encoders=("far", "far"))
    with pytest.raises(ValueError, match="looks at one hidden state"):
        repa(tap=(1, 2))
    with pytest.raises(ValueError, match=r"encoder 'plain' gives no tokens .* 'far.tokens'"):
        repa(encoders=("plain",)).build(FACTS)
    with pytest.raises(RecipeError, match=r"no \[data.encoder.far\]"):
        loads(
            'extends = "digits/label"\n[objective.a]\nuse="repa"\nencoders=["far"]\ntap=2\nweight=0.5', "mine"
        )


@pytest.mark.parametrize("options", [{}, {"projector": "conv", "normalise": 0.5, "structure": 0.5}], ids=str)
def test_contract(options):
    check_objective(repa(**options), features={"far.tokens": normal(32, 4, 6).float()})
