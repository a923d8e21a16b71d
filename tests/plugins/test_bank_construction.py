"""Building a bank, against an independent singular value decomposition in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import safetensors.numpy
import torch
from bank_data import Features, configure, decaying, make, unit

from genmem_bank.building import choosing, construction, features, moments
from genmem_bank.building.choosing import choose_per_class, choose_samples
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.unfinished import Block, blocks_of
from genmem_bank.looking.spectrum import kept_by_rank
from genmem_bank.storage.card import Card, read_card
from genmem_bank.storage.files import Basis, read_basis, read_spectrum
from genmem_bank.storage.rows import StoredRows
from genmem_bank.storage.tensors import narrow, widen


def stored(folder: Path) -> tuple[np.ndarray, Basis]:
    """Coefficients and basis as they lie on disk."""
    card = read_card(folder / "bank")
    return StoredRows(folder / "bank", card).part(0, card.rows), read_basis(folder / "bank", card)


def build(folder: Path, dataset: Features, form: Form, **changes: Any) -> tuple[Card, np.ndarray]:
    """A bank of a data set's features in folder/bank: its card, and what is stored."""
    settings: dict[str, Any] = {"encoder": "enc", "views": dataset.views, "count": dataset.count("train")}
    made = features.Features(dataset=dataset, **settings | changes)  # type: ignore[arg-type]
    card = build_bank(folder / "bank", made, form)
    return card, StoredRows(folder / "bank", card).part(0, card.rows)


def small_blocks(monkeypatch: pytest.MonkeyPatch, part: int, block: int) -> None:
    """Rows come this many at a time, and are this many to a block."""
    monkeypatch.setattr(features, "PART_BYTES", part * 8 * 12)
    cut = [Block(i, start, min(start + block, 60)) for i, start in enumerate(range(0, 60, block))]
    monkeypatch.setattr(construction, "blocks_of", lambda rows, width: cut)


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
    card = read_card(tmp_path / "bank")
    assert card.energy == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum(), abs=1e-9)
    np.testing.assert_allclose(read_spectrum(tmp_path / "bank", card), s, atol=1e-8)
    assert card.error is not None and card.error * 60**0.5 == pytest.approx(error, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("rank", [5, 12, None])
def test_the_error_is_that_of_what_is_on_disk(tmp_path: Path, rank: int | None, dtype: Any) -> None:
    """Rounding included, whether it is told by a difference of sums or by rows."""
    card, c = build(tmp_path, Features(tmp_path, decaying()), Form(rank=rank, dtype=dtype))
    found = c.astype(np.float64)
    if rank is not None:
        basis = read_basis(tmp_path / "bank", card)
        found = found @ basis.basis_ER.T + basis.mean_E
    error = np.sqrt(np.square(found - unit(decaying())).sum(1).mean())
    assert card.error == pytest.approx(error, rel=1e-4, abs=5e-8)
    assert (card.kind, card.rank) == ("raw" if rank is None else "low-rank", rank)
    if dtype != "fp32":
        assert error > 1e-5  # the rounding is there to be seen


@pytest.mark.parametrize(("part", "block"), [(1, 60), (7, 60), (100, 60), (7, 20), (3, 7)])
def test_streaming_in_any_pieces_gives_one_bank(
    tmp_path: Path, part: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments and the rows do not depend on how the features came."""
    rows = decaying()
    make(tmp_path / "whole", rows)
    small_blocks(monkeypatch, part, block)
    make(tmp_path / "pieces", rows)
    (c, basis), (d, other) = stored(tmp_path / "whole"), stored(tmp_path / "pieces")
    np.testing.assert_allclose(
        c @ basis.basis_ER.T + basis.mean_E, d @ other.basis_ER.T + other.mean_E, atol=1e-6
    )
    np.testing.assert_allclose(basis.singular_R, other.singular_R, rtol=1e-8)


def test_no_more_is_read_at_once_for_more_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes, a part at a time; blocks get larger, not more, and each has moments of its own."""
    asked: list[int] = []

    class Watched(Features):
        def feature(self, split: str, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
            asked.append(stop - start)
            return super().feature(split, name, start, stop, view)

    small_blocks(monkeypatch, 7, 20)
    build(tmp_path, Watched(tmp_path, decaying()), Form(rank=5))
    assert max(asked) == 7 and sum(asked) == 1 + 2 * 60
    for rows in (1, 10_000, 1_281_167, 10**9):
        blocks = blocks_of(rows, 768)
        assert len(blocks) <= 64
        assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]
        assert (blocks[0].start, blocks[-1].stop) == (0, rows)


def summed(rows: np.ndarray, parts: int) -> moments.Moments:
    """Moments of rows that pass by in so many parts."""
    return moments.sum_moments(torch.from_numpy(part) for part in np.split(rows, parts))


def test_a_far_mean_cancels_nothing() -> None:
    """Moments about the first chunk's mean keep digits that plain sums of squares lose."""
    draws = np.random.default_rng(0)
    rows = 1.0 + 1e-7 * draws.normal(size=(5000, 3))
    expected = (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    parts = [summed(part, 5) for part in np.split(rows, [900, 1000, 3000])]
    for found in (summed(rows, 10), moments.join_moments(parts)):
        assert found.rows == 5000
        np.testing.assert_allclose(found.mean_E, rows.mean(0), atol=1e-15)
        np.testing.assert_allclose(found.scatter_EE, expected, rtol=1e-6, atol=1e-16)
    plain = rows.T @ rows - len(rows) * np.outer(rows.mean(0), rows.mean(0))  # the wrong variant
    assert np.abs(plain / expected - 1).max() > 1e-2


@pytest.mark.parametrize("energy", [0.3, 0.8, 0.95, 0.999, 1.0])
def test_the_fewest_dimensions_that_keep_the_energy(tmp_path: Path, energy: float) -> None:
    """One fewer would keep less."""
    card, _ = build(tmp_path, Features(tmp_path, decaying()), Form(energy=energy))
    m = unit(decaying())
    s = np.linalg.svd(m - m.mean(0), compute_uv=False)
    shares = np.cumsum(s**2) / (s**2).sum()
    assert card.rank is not None and card.energy is not None
    assert card.energy >= energy - 1e-9 and card.energy == pytest.approx(shares[card.rank - 1], abs=1e-9)
    assert card.rank == 1 or shares[card.rank - 2] < energy
    kept = kept_by_rank(tmp_path / "bank", card)
    assert list(kept) == sorted({1, 2, 4, 8, card.rank, 12})
    assert kept == pytest.approx({rank: shares[rank - 1] for rank in kept}, abs=1e-9)


@pytest.mark.parametrize("part", [7, 1000])
def test_rows_of_both_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """Plain ones first, in parts that end in the middle of a view; mean and basis are those of all."""
    monkeypatch.setattr(features, "PART_BYTES", part * 8 * 12)
    plain, mirrored = decaying(), decaying(seed=3)
    card, c = build(tmp_path, Features(tmp_path, plain, mirrored=mirrored), Form(rank=12))
    basis = read_basis(tmp_path / "bank", card)
    m = unit(np.concatenate([plain, mirrored]))
    assert card.rows == 120
    np.testing.assert_allclose(basis.mean_E, m.mean(0), atol=1e-14)
    np.testing.assert_allclose(c @ basis.basis_ER.T + basis.mean_E, m, atol=1e-6)
    rows = StoredRows(tmp_path / "bank", card)
    sample, view = rows.samples(np.arange(120))
    assert sample.tolist() == [*range(60), *range(60)] and view.tolist() == [0] * 60 + [1] * 60
    assert rows.find(sample, view).tolist() == list(range(120))
    assert rows.find(np.array([60, -1, 3, 3]), np.array([0, 0, 2, -1])).tolist() == [-1] * 4


LABELS = np.repeat(np.arange(4), [30, 15, 10, 5])


@pytest.mark.parametrize("part", [3, 1000])
def test_chosen_samples_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """Both views of them, with their numbers beside; whatever lies between them is not in the bank."""
    monkeypatch.setattr(features, "PART_BYTES", part * 8 * 12)
    dataset = Features(tmp_path, decaying(), mirrored=decaying(seed=3), label_N=LABELS)
    numbers = choose_per_class(LABELS, 7, 4)
    card, found = build(tmp_path, dataset, Form(), numbers=numbers, count=16, drawn="so")
    expected = np.concatenate([unit(decaying())[numbers], unit(decaying(seed=3))[numbers]])
    np.testing.assert_allclose(found, expected, atol=1e-7)
    rows, samples = StoredRows(tmp_path / "bank", card), card.segments[0].origin.samples
    assert samples is not None and samples.drawn == "so" and samples.numbers is not None
    sample, view = rows.samples(np.arange(32))
    assert sample.tolist() == [*numbers, *numbers] and view.tolist() == [0] * 16 + [1] * 16
    places = rows.find(np.arange(60), np.ones(60, np.int64))
    assert places[numbers].tolist() == list(range(16, 32)) and (places >= 0).sum() == 16
    assert rows.labels(np.arange(16)).tolist() == LABELS[numbers].tolist()


def test_drawing_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact counts, the same for a seed, a larger draw contains a smaller one, any sample can come."""
    one, two = choose_per_class(LABELS, 0, 3), choose_per_class(LABELS, 0, 5)
    assert np.bincount(LABELS[one]).tolist() == [3] * 4 and np.bincount(LABELS[two]).tolist() == [5] * 4
    assert set(one) <= set(two) and one.tolist() == sorted(one)
    assert choose_per_class(LABELS, 1, 3).tolist() != one.tolist()
    some = [choose_samples(100, seed, 30) for seed in range(200)]
    assert all(len(set(drawn)) == 30 and drawn.tolist() == sorted(drawn) for drawn in some)
    counts = np.bincount(np.concatenate(some), minlength=100)
    assert abs(counts - 60).max() < 6 * np.sqrt(200 * 0.3 * 0.7)
    assert set(choose_samples(100, 0, 10)) <= set(choose_samples(100, 0, 30))
    monkeypatch.setattr(choosing, "PART", 16)  # drawn from pieces, as from the whole
    assert choose_samples(100, 0, 30).tolist() == some[0].tolist()
    with pytest.raises(ValueError, match="--per-class 6, but class 3 has 5 samples; choose 5 or less"):
        choose_per_class(LABELS, 0, 6)
    with pytest.raises(ValueError, match="without a class"):
        choose_per_class(LABELS - 1, 0, 1)
    with pytest.raises(ValueError, match="--rows 101, but there are 100"):
        choose_samples(100, 0, 101)


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    """Anybody reads them; nothing is pickled; the card says where the features came from."""
    make(tmp_path, decaying(), rank=5, dtype="fp32")
    folder = tmp_path / "bank"
    card = json.loads((folder / "bank.json").read_text())
    (segment,) = card["segments"]
    names = {"bank.json", ".lock", card["basis_file"], segment["file"]}
    assert {path.name for path in folder.iterdir()} == names
    basis = safetensors.numpy.load_file(folder / card["basis_file"])
    assert {name: (a.shape, a.dtype) for name, a in basis.items()} == {
        "mean": ((12,), np.float64),
        "basis": ((12, 5), np.float64),
        "singular": ((5,), np.float64),
        "spectrum": ((12,), np.float64),
    }
    rows = safetensors.numpy.load_file(folder / segment["file"])["coefficients"]
    np.testing.assert_array_equal(rows, stored(tmp_path)[0])
    assert (segment["rows"], card["rank"], card["width"], card["encoder"]) == (60, 5, 12, "enc")
    assert card["provenance"] == Features(tmp_path, decaying()).provenance() | {
        "encoders": {"enc": ["linear", 1]}
    }


def test_narrow_types_are_torchs() -> None:
    """Rounding to nearest, ties to even, and back."""
    bits = torch.arange(-(2**31), 2**31, 2**14 - 1, dtype=torch.int64).to(torch.int32)
    numbers = bits.view(torch.float32)
    numbers = torch.cat([numbers[numbers.isfinite()], torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])])
    found = widen(narrow(numbers.numpy(), "bf16"))
    np.testing.assert_array_equal(found, numbers.bfloat16().float().numpy())
    small = numbers[numbers.abs() < 60_000]
    np.testing.assert_array_equal(widen(narrow(small.numpy(), "fp16")), small.half().float().numpy())


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
        ({"rank": "raw"}, {}, "rank is 12, expected 'raw'"),
        ({"dtype": "bf16"}, {}, "dtype is 'fp32', expected 'bf16'"),
        ({}, {"rows": decaying(61)}, "rows is 60, expected 61"),
        ({}, {"mirrored": decaying()}, "views is 1, expected 2"),
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


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("rows", "rank", "message"),
    [
        (spoiled(0.0), 12, "'enc' of sample 41 is zero"),
        (spoiled(np.nan), 12, "'enc' of sample 41 is not finite"),
        (spoiled(np.inf), 12, "'enc' of sample 41 is not finite"),
        (decaying(), 13, "rank = 13, but the features have width 12"),
        (np.repeat(decaying(4), 20, 0), 4, "rank = 4, but 80 rows of width 12 span 3 directions"),
        (decaying()[:, None], 12, r"shape \(1, 1, 12\).*one vector per sample"),
        (decaying(0), 1, "the training set is empty"),
    ],
)
def test_features_no_bank_can_be_made_of(
    tmp_path: Path, rows: np.ndarray, rank: int, message: str, there: bool
) -> None:
    """A clear error, and nothing written; a bank that is there stays as it is."""
    if there:
        build(tmp_path, Features(tmp_path, decaying(seed=5)), Form(rank=3))
        before = {path.name: path.read_bytes() for path in (tmp_path / "bank").iterdir()}
    with pytest.raises(ValueError, match=message):
        build(tmp_path, Features(tmp_path, rows), Form(rank=rank))
    assert (tmp_path / "bank").exists() == there
    if there:
        assert before == {path.name: path.read_bytes() for path in (tmp_path / "bank").iterdir()}


def test_features_that_are_whole_numbers(tmp_path: Path) -> None:
    """They are refused, and nothing is left."""

    @attrs.frozen
    class Whole(Features):
        def feature(self, split: str, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
            return super().feature(split, name, start, stop, view).astype(np.int32)

    with pytest.raises(ValueError, match="feature 'enc' is int32, expected floating point"):
        build(tmp_path, Whole(tmp_path, decaying()), Form(rank=3))
    assert not (tmp_path / "bank").exists()


def test_a_width_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, with the sample."""

    class Changing(Features):
        def feature(self, split: str, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
            part = super().feature(split, name, start, stop, view)
            return part[:, :10] if start == 40 else part

    small_blocks(monkeypatch, 20, 60)
    with pytest.raises(ValueError, match="of sample 40 has width 10, those before have 12"):
        build(tmp_path, Changing(tmp_path, decaying()), Form(rank=3))
    assert not (tmp_path / "bank").exists()
