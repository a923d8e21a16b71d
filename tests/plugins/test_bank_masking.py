"""Masking of rows: which entries, and what they become."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genmem.draws import Draws
from genmem_bank import SvdBankConfig
from genmem_bank.conditioning.masking import Masking, mask_rows

COUNT, WIDTH = 4000, 50
ROWS = torch.full((COUNT, WIDTH), 0.5)


def masked(
    mask: str,
    ratio: float,
    rule: str = "exact",
    name: str = "enc",
    start: int = 0,
    stop: int = COUNT,
    scale: str = "width",
) -> torch.Tensor:
    """Constant rows under a mask."""
    masking = Masking(mask, ratio, rule, scale)  # type: ignore[arg-type]
    return mask_rows(ROWS[start:stop], masking, Draws(0, torch.arange(start, stop)), name)


@pytest.mark.parametrize(
    ("ratio", "count"), [(0.4, 20), (0.41, 20), (0.42, 21), (0.01, 0), (0.98, 49), (1.0, 50)]
)
def test_exactly_so_many_entries_are_zero(ratio: float, count: int) -> None:
    """The paper's: the same number in every row, each entry equally often, the rest untouched."""
    out = masked("zero", ratio)
    zero = out == 0
    assert torch.equal(zero.sum(1), torch.full((COUNT,), count))
    assert torch.equal(out[~zero], ROWS[~zero])
    assert bool(((zero.float().mean(0) - count / WIDTH).abs() < 0.04).all())


def test_independent_coins_keep_the_mean() -> None:
    """The code's: dropout, survivors divided by 1 - p."""
    out = masked("zero", 0.4, "independent")
    zero = out == 0
    assert len(zero.sum(1).unique()) > 10
    assert float(zero.float().mean()) == pytest.approx(0.4, abs=5e-3)
    torch.testing.assert_close(out[~zero], ROWS[~zero] / 0.6)
    assert float(out.mean()) == pytest.approx(0.5, abs=5e-3)


def test_random_entries_have_the_scale_of_a_unit_row() -> None:
    """Masked entries are Gaussian with deviation 1/√E; the others stay."""
    out = masked("random", 0.4)
    changed = out != 0.5
    assert torch.equal(changed.sum(1), torch.full((COUNT,), 20))
    assert float(out[changed].mean()) == pytest.approx(0.0, abs=2e-3)
    assert float(out[changed].std()) == pytest.approx(WIDTH**-0.5, rel=0.02)


def test_noise_reaches_every_entry() -> None:
    """Its strength is the ratio, in units of a unit row's entries."""
    added = masked("noise", 0.4) - ROWS
    assert bool((added != 0).all())
    assert float(added.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(added.std()) == pytest.approx(0.4 * WIDTH**-0.5, rel=0.02)


@pytest.mark.parametrize(("scale", "deviation"), [("row", 0.5), ("width", WIDTH**-0.5), ("unit", 1.0)])
@pytest.mark.parametrize(("mask", "strength"), [("random", 1.0), ("noise", 0.4)])
def test_the_scale_of_the_noise(mask: str, strength: float, scale: str, deviation: float) -> None:
    """A row of 0.5 has norm 0.5·√E, so noise of its own scale has deviation 0.5; a unit row's, 1/√E; or 1."""
    out = masked(mask, 0.4, scale=scale)
    changed = out[out != 0.5] - (0.5 if mask == "noise" else 0.0)
    assert float(changed.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(changed.std()) == pytest.approx(strength * deviation, rel=0.02)


@pytest.mark.parametrize("mask", ["zero", "random", "noise"])
def test_each_sample_has_its_own_mask(mask: str) -> None:
    """Whoever is in its batch; another bank masks otherwise; another sample too."""
    whole = masked(mask, 0.4)
    assert torch.equal(masked(mask, 0.4, start=1000, stop=1100), whole[1000:1100])
    assert not torch.equal(masked(mask, 0.4, name="other"), whole)
    assert not torch.equal(whole[0], whole[1])


def test_nothing_to_mask() -> None:
    """The rows themselves."""
    assert torch.equal(masked("none", 0.4), ROWS)
    assert all(
        torch.equal(masked(mask, 0.0, rule), ROWS)
        for mask in ("zero", "random", "noise")
        for rule in ("exact", "independent")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": "noise", "mask_rule": "independent"}, 'mask = "noise" adds noise to all of them'),
        ({"mask_ratio": 1.1}, "mask_ratio = 1.1: a share is at most 1"),
        ({"mask_ratio": 1.0, "mask_rule": "independent"}, "below 1 where coins are tossed"),
        ({"mask_ratio": -0.1}, "mask_ratio"),
        ({"rank": 0}, "rank must be 1 or more, got 0"),
        ({"dtype": "fp16"}, "does not hold the range of coefficients"),
    ],
)
def test_settings_that_cannot_be_honoured(changes: dict[str, Any], message: str) -> None:
    """Refused before anything is built."""
    usual: dict[str, Any] = {"path": "bank", "encoder": "enc", "rank": 4}
    with pytest.raises(ValueError, match=message):
        SvdBankConfig(**usual | changes)
