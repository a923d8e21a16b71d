"""Building a bank, against an independent singular value decomposition in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from bank_data import Features, configure, decaying, make, unit

from genmem_bank import construction
from genmem_bank.files import Basis, map_rows, read_basis, read_card
from genmem_bank.tensors import narrow, widen


def stored(folder: Path) -> tuple[np.ndarray, Basis]:
    """Coefficients and basis as they lie on disk."""
    card = read_card(folder / "bank")
    return widen(map_rows(folder / "bank", card)), read_basis(folder / "bank", card)


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_equation_8(tmp_path: Path, rank: int) -> None:
    """M ≈ C Bᵀ + μ with C = U Σ^½, B = V Σ^½, and no rank-r matrix comes closer."""
    rows = decaying()
    make(tmp_path, rows, rank=rank)
    c, basis = stored(tmp_path)
    m = unit(rows)
    u, s, vt = np.linalg.svd(m - m.mean(0), full_matrices=False)
    np.testing.assert_allclose(basis.mean_E, m.mean(0), atol=1e-14)
    np.testing.assert_allclose(basis.singular_R, s[:rank], rtol=1e-6, atol=1e-10)
    sign = np.sign((basis.basis_ER * vt[:rank].T).sum(0))
    np.testing.assert_allclose(basis.basis_ER * sign, vt[:rank].T * np.sqrt(s[:rank]), atol=1e-6)
    np.testing.assert_allclose(c * sign, u[:, :rank] * np.sqrt(s[:rank]), atol=1e-5)
    error = np.linalg.norm(c @ basis.basis_ER.T + basis.mean_E - m)
    assert error == pytest.approx(np.sqrt((s[rank:] ** 2).sum()), rel=1e-4, abs=1e-6)
    assert read_card(tmp_path / "bank").energy == pytest.approx(
        (s[:rank] ** 2).sum() / (s**2).sum(), abs=1e-9
    )


@pytest.mark.parametrize("chunk", [1, 7, 60, 100])
def test_streaming_in_any_pieces_gives_one_bank(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments and the rows do not depend on how the features came."""
    rows = decaying()
    make(tmp_path / "whole", rows)
    monkeypatch.setattr(construction, "CHUNK", chunk)
    make(tmp_path / "pieces", rows)
    (c, basis), (d, other) = stored(tmp_path / "whole"), stored(tmp_path / "pieces")
    np.testing.assert_allclose(
        c @ basis.basis_ER.T + basis.mean_E, d @ other.basis_ER.T + other.mean_E, atol=1e-6
    )
    np.testing.assert_allclose(basis.singular_R, other.singular_R, rtol=1e-8)


def test_a_far_mean_cancels_nothing() -> None:
    """Moments about the first chunk's mean keep digits that plain sums of squares lose."""
    draws = np.random.default_rng(0)
    rows = 1.0 + 1e-7 * draws.normal(size=(5000, 3))
    mean, scatter = construction.sum_moments(iter(np.split(rows, 10)))
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-15)
    expected = (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    np.testing.assert_allclose(scatter, expected, rtol=1e-6, atol=1e-16)
    plain = rows.T @ rows - len(rows) * np.outer(rows.mean(0), rows.mean(0))  # the wrong variant
    assert np.abs(plain / expected - 1).max() > 1e-2


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    """Anybody reads them; nothing is pickled; the card says where the features came from."""
    make(tmp_path, decaying(), rank=5, dtype="fp32")
    folder = tmp_path / "bank"
    card = json.loads((folder / "bank.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["bank.json", card["basis_file"], card["rows_file"]]
    )
    basis = safetensors.numpy.load_file(folder / card["basis_file"])
    assert {name: (a.shape, a.dtype) for name, a in basis.items()} == {
        "mean": ((12,), np.float64),
        "basis": ((12, 5), np.float64),
        "singular": ((5,), np.float64),
    }
    rows = safetensors.numpy.load_file(folder / card["rows_file"])["coefficients"]
    np.testing.assert_array_equal(rows, stored(tmp_path)[0])
    assert (card["rows"], card["rank"], card["width"], card["encoder"]) == (60, 5, 12, "enc")
    assert card["provenance"] == {"source": "made up", "encoders": {"enc": ["linear", 1]}}


def test_bf16_is_torchs() -> None:
    """Rounding to nearest, ties to even, and back."""
    bits = torch.arange(-(2**31), 2**31, 2**14 - 1, dtype=torch.int64).to(torch.int32)
    numbers = bits.view(torch.float32)
    numbers = torch.cat([numbers[numbers.isfinite()], torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])])
    found = widen(narrow(numbers.numpy(), "bf16"))
    np.testing.assert_array_equal(found, numbers.bfloat16().float().numpy())


def test_a_bank_that_is_there_is_kept(tmp_path: Path) -> None:
    """Prepared twice, written once."""
    config, dataset = configure(tmp_path), Features(tmp_path, decaying())
    config.prepare(dataset)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").iterdir()}
    config.prepare(dataset)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").iterdir()}


@pytest.mark.parametrize(
    ("changes", "dataset", "message"),
    [
        ({"encoder": "other"}, {}, "encoder is 'enc', expected 'other'"),
        ({"rank": 5}, {}, "rank is 12, expected 5"),
        ({"dtype": "bf16"}, {}, "dtype is 'fp32', expected 'bf16'"),
        ({}, {"rows": decaying(61)}, "rows is 60, expected 61"),
        ({}, {"name": "others"}, "provenance.source is 'made up', expected 'others'"),
    ],
)
def test_another_bank_is_refused(
    tmp_path: Path, changes: dict[str, object], dataset: dict[str, object], message: str
) -> None:
    """Naming both sides, the folder, and the way out."""
    make(tmp_path, decaying())
    other = Features(**{"path": tmp_path, "rows": decaying()} | dataset)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message) as refusal:
        configure(tmp_path, **changes).prepare(other)
    assert str(tmp_path / "bank") in str(refusal.value) and "remove the folder" in str(refusal.value)


def spoiled(value: float) -> np.ndarray:
    """Features of which number 41 is wholly this value."""
    rows = decaying()
    rows[41] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "rank", "message"),
    [
        (spoiled(0.0), 12, "'enc' of sample 41 is zero"),
        (spoiled(np.nan), 12, "'enc' of sample 41 is not finite"),
        (spoiled(np.inf), 12, "'enc' of sample 41 is not finite"),
        (decaying(), 13, "rank = 13, but the features have width 12"),
        (np.repeat(decaying(4), 20, 0), 4, "rank = 4, but 80 rows of width 12 span 3 directions"),
        (decaying()[:, None], 12, r"shape \(60, 1, 12\).*one vector per sample"),
        (decaying(0), 1, "the training set is empty"),
    ],
)
def test_features_no_bank_can_be_made_of(tmp_path: Path, rows: np.ndarray, rank: int, message: str) -> None:
    """A clear error, and nothing written."""
    with pytest.raises(ValueError, match=message):
        make(tmp_path, rows, rank=rank)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("step", ["write_rows", "write_basis", "write_card"])
def test_an_interrupted_build_leaves_no_bank(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written is not a bank, and the next build makes a whole one."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(construction, step, die)
        make(tmp_path, decaying())
    assert not (tmp_path / "bank" / "bank.json").exists()
    assert make(tmp_path, decaying()).num_rows == 60


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cannot be read a second time."""

    def fail(*_: object) -> np.ndarray:
        raise OSError("the disk is gone")

    monkeypatch.setattr(construction, "coefficients", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        make(tmp_path, decaying())
    assert not list((tmp_path / "bank").iterdir())
