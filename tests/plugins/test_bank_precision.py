"""Moments whose products are taken in fp32: as good a bank, or taken again in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bank_data import Features, decaying, unit

from genmem_bank.building import construction, features, moments
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.storage.files import read_basis
from genmem_bank.storage.rows import StoredRows


def build(folder: Path, rows: np.ndarray, form: Form) -> tuple[np.ndarray, float]:
    """Rows read back (float64), and the smallest singular value kept."""
    made = features.Features(dataset=Features(folder, rows), encoder="enc", count=len(rows))
    card = build_bank(folder / "bank", made, form)
    basis = read_basis(folder / "bank", card)
    stored = StoredRows(folder / "bank", card).part(0, card.rows).astype(np.float64)
    return stored @ basis.basis_ER.T + basis.mean_E, float(basis.singular_R[-1])


def falling(count: int, width: int) -> np.ndarray:
    """Features of which direction j varies as 1/√(1 + j), with a mean."""
    draws = np.random.default_rng(2)
    return np.asarray(1 + draws.normal(size=(count, width)) / np.sqrt(1 + np.arange(width)), np.float32)


def test_no_bank_is_closer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows in many parts: the error is that of the best there is, by an SVD in float64."""
    monkeypatch.setattr(construction, "EXACT", 0)
    monkeypatch.setattr(features, "PART_BYTES", 8 * 32 * 500)
    rows = falling(20_000, 32)
    back, smallest = build(tmp_path, rows, Form(rank=12))
    m = unit(rows)
    singular = np.linalg.svd(m - m.mean(0), compute_uv=False)
    assert np.linalg.norm(back - m) == pytest.approx(np.sqrt((singular[12:] ** 2).sum()), rel=1e-7)
    assert smallest == pytest.approx(singular[11], rel=1e-6)


def test_products_in_fp32_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many numbers; and float64 where there are few, or the spectrum is steep."""
    taken: list[str] = []

    def watched(chunks: object) -> moments.Moments:
        parts = list(chunks)  # type: ignore[call-overload]
        taken.append(str(parts[0].dtype))
        return moments.sum_moments(parts)

    monkeypatch.setattr(construction, "sum_moments", watched)
    build(tmp_path / "few", falling(100, 8), Form(rank=4))
    monkeypatch.setattr(construction, "EXACT", 0)
    build(tmp_path / "many", falling(100, 8), Form(rank=4))
    exact, _ = build(tmp_path / "steep", decaying(), Form(rank=12))
    assert taken == ["torch.float64", "torch.float32", "torch.float32", "torch.float64"]
    assert np.abs(exact - unit(decaying())).max() < 1e-6


def test_directions_that_rows_do_not_span_are_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding in fp32 looks like a direction more; float64 tells."""
    monkeypatch.setattr(construction, "EXACT", 0)
    flat = falling(100, 6)[:, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]]
    with pytest.raises(ValueError, match=r"rank = 8, but 100 rows of width 10 span 6 directions"):
        build(tmp_path, flat, Form(rank=8))
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_whose_squares_fp32_cannot_hold_have_a_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """Their norms are taken in float64; the bank is that of the same features at another scale."""
    monkeypatch.setattr(construction, "EXACT", 0)
    rows = falling(400, 8).astype(np.float32)
    expected, _ = build(tmp_path / "plain", rows, Form(rank=4))
    found, _ = build(tmp_path / "scaled", rows * np.float32(scale), Form(rank=4))
    np.testing.assert_allclose(found, expected, atol=1e-5)
