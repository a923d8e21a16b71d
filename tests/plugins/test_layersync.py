"""LayerSync against NumPy in float64, and the two traps of its released code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genmem.contracts import Facts, Prediction
from genmem.recipe import RecipeError, loads
from genmem.testing import check_objective
from genmem_alignment import LayerSyncConfig

FACTS = Facts(sample_shape=(1, 8, 8), output_channels=1, tap_widths=dict.fromkeys(range(1, 5), 5))


def states(dtype: torch.dtype = torch.float64) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        tap: torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for tap in (1, 3)
    }


def run(hidden: dict[int, Tensor]):
    module = LayerSyncConfig(tap=1, target=3).build(FACTS)
    return module(SimpleNamespace(prediction=Prediction(torch.empty(0), hidden))).value


def cosines(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))


def test_value_is_the_cosine_over_channels_and_the_target_has_no_gradient():
    hidden = states()
    a, b = (hidden[tap].detach().numpy() for tap in (1, 3))
    value = run(hidden)
    assert value.item() == pytest.approx(-cosines(a, b, 2).mean(), rel=1e-12)
    assert abs(value.item() + cosines(a, b, 1).mean()) > 1e-2  # over tokens: the trap
    value.backward()
    unit_a, unit_b = (part / np.linalg.norm(part, axis=2, keepdims=True) for part in (a, b))
    slope = (unit_b - cosines(a, b, 2)[..., None] * unit_a) / np.linalg.norm(a, axis=2, keepdims=True)
    np.testing.assert_allclose(hidden[1].grad.numpy(), -slope / 12, atol=1e-14)
    assert hidden[3].grad is None


def test_a_state_aligned_with_itself_would_teach_nothing():
    """What the released code does when its two arguments are left at their defaults."""
    hidden = states()[1]
    value = run({1: hidden, 3: hidden})
    value.backward()
    assert value.item() == pytest.approx(-1)
    torch.testing.assert_close(hidden.grad, torch.zeros_like(hidden), atol=1e-15, rtol=0)


RECIPE = 'extends = "digits/label"\n[objective.sync]\nuse = "layersync"\nweight = 0.2\n'


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("tap = 2\ntarget = 2", "target is the state after block 2, the tap after block 2.*later target"),
        ("tap = 3\ntarget = 1", "target is the state after block 1, the tap after block 3"),
        ("tap_fraction = 0.5\ntarget_fraction = 0.6", "after block 2, the tap after block 2"),
        ("tap = 2\ntarget = 9", "there is no tap 9"),
        ("tap = 2", "give either target"),
        ("tap = 2\ntarget = 3\ntarget_fraction = 0.5", "give either target"),
        ("tap = 2\ntarget_fraction = 1.5", r"target_fraction must be in \(0, 1\], got 1.5"),
        ("tap = [1, 2]\ntarget = 3", "name another objective for each further one"),
    ],
)
def test_a_recipe_without_a_later_target_is_refused(keys, message):
    with pytest.raises(RecipeError, match=message):
        loads(RECIPE + keys, "mine")


def test_fractions_of_the_depth():
    """The authors' 8 → 16 of 28 blocks."""
    assert LayerSyncConfig(tap_fraction=0.3, target_fraction=0.6).taps(28) == (8, 16)


def test_states_of_two_widths_are_refused():
    facts = Facts(sample_shape=(1, 8, 8), output_channels=1, tap_widths={1: 4, 2: 4, 3: 8})
    assert LayerSyncConfig(tap=1, target=2).build(facts).target == 2
    with pytest.raises(ValueError, match="after blocks 1 and 3 are 4 and 8 wide"):
        LayerSyncConfig(tap=1, target=3).build(facts)


def test_half_precision_is_widened_and_autocast_left():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(states(torch.bfloat16))
    exact = run({tap: h.detach().bfloat16().float() for tap, h in states().items()})
    assert found.dtype == torch.float32 and torch.equal(found, exact)


def test_contract():
    check_objective(LayerSyncConfig(tap=1, target=3))
