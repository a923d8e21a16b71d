"""A bank's files: round trips, rows that are appended, damage of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bank_data import Features, decaying, unit

from genmem_bank.building import features
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.writing import coefficients
from genmem_bank.storage import files
from genmem_bank.storage.card import Added, Card, read_card
from genmem_bank.storage.files import append_rows, read_basis
from genmem_bank.storage.rows import StoredRows
from genmem_bank.storage.verification import verify

LABELS = np.arange(60) % 10
NUMBERS = np.arange(0, 60, 2)
ADDED = Added(what=("one.png", "two.png", "three.png"), hashes=("a", "b", "c"))


def build(
    folder: Path, rank: int | None = 5, dtype: Any = "fp32", numbers: np.ndarray | None = NUMBERS
) -> Card:
    """A bank of both views of every second sample."""
    dataset = Features(Path("set"), decaying(), mirrored=decaying(seed=3), label_N=LABELS)
    count = 60 if numbers is None else len(numbers)
    made = features.Features(dataset=dataset, encoder="enc", views=2, count=count, numbers=numbers)
    return build_bank(folder, made, Form(rank=rank, dtype=dtype))


def stored_of(folder: Path, card: Card, rows: np.ndarray) -> np.ndarray:
    """Rows as this bank stores them."""
    return rows if card.rank is None else coefficients(rows, read_basis(folder, card))


@pytest.mark.parametrize(
    ("rank", "dtype", "exact"), [(5, "fp32", 1e-6), (5, "bf16", 2e-2), (None, "fp16", 1e-3)]
)
def test_appended_rows(tmp_path: Path, rank: int | None, dtype: str, exact: float) -> None:
    """Behind the others, twice; the identity stays, the rows' hash does not; who they are is known."""
    card, new = build(tmp_path, rank, dtype), unit(decaying(3, seed=9))
    more = append_rows(tmp_path, iter(np.split(stored_of(tmp_path, card, new), 3)), ADDED)
    last = append_rows(tmp_path, [stored_of(tmp_path, card, new)], ADDED)
    assert read_card(tmp_path) == last and last.segments[:2] == more.segments
    assert (card.rows, more.rows, last.rows, last.added_rows) == (60, 63, 66, 6)
    assert card.identity == more.identity and card.rows_hash != more.rows_hash != last.rows_hash
    verify(tmp_path, last)
    rows = StoredRows(tmp_path, last)
    np.testing.assert_allclose(rows.part(60, 63), stored_of(tmp_path, card, new), atol=exact)
    np.testing.assert_array_equal(rows.part(58, 66), rows.take(np.arange(58, 66)))
    np.testing.assert_array_equal(rows.part(0, 60), StoredRows(tmp_path, card).part(0, 60))
    mixed = np.array([65, 0, 61, 59, 61])
    np.testing.assert_array_equal(rows.take(mixed), rows.part(0, 66)[mixed])
    sample, view = rows.samples(mixed)
    assert sample.tolist() == [-1, 0, -1, 58, -1] and view.tolist() == [-1, 0, -1, 1, -1]
    assert rows.find(NUMBERS, NUMBERS * 0).tolist() == list(range(30))
    assert rows.find(NUMBERS + 1, NUMBERS * 0).tolist() == [-1] * 30
    assert rows.find(NUMBERS, NUMBERS * 0, "test").tolist() == [-1] * 30
    assert rows.nbytes == 66 * (rank or 12) * (4 if dtype == "fp32" else 2)
    for number in (-1, 66):
        with pytest.raises(IndexError, match=f"row {number} was asked for, but the bank's rows are 0 to 65"):
            rows.take(np.array([0, number]))


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: [c[:, :4]], r"rows of shape \(3, 4\), expected \(n, 5\)"),
        (lambda c: [c[0]], r"rows of shape \(5,\), expected"),
        (lambda c: [c[:1], np.where(np.arange(5) == 2, np.nan, c[1:])], "a row is not finite"),
        (lambda c: [c[:2]], "2 rows came, 3 were announced"),
        (lambda c: [c, c[:1]], "4 rows came, 3 were announced"),
    ],
)
def test_rows_that_are_not_appended(
    tmp_path: Path, spoil: Callable[[np.ndarray], list[np.ndarray]], message: str
) -> None:
    """Refused, and nothing is written."""
    card = build(tmp_path)
    before = content_of(tmp_path)
    with pytest.raises(ValueError, match=message):
        append_rows(tmp_path, spoil(stored_of(tmp_path, card, unit(decaying(3)))), ADDED)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("step", ["write_segment", "write_card"])
def test_an_append_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Leaves the old bank; what it wrote is gone after the next append, which is complete."""
    card = build(tmp_path)
    rows = [stored_of(tmp_path, card, unit(decaying(3)))]
    before, real = content_of(tmp_path), getattr(files, step)

    def die(*arguments: Any) -> None:
        if step == "write_segment":
            real(*arguments)
        os._exit(9)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(files, step, die)
        append_rows(tmp_path, rows, ADDED)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert before.items() <= content_of(tmp_path).items() and read_card(tmp_path) == card
    assert len(content_of(tmp_path)) == len(before) + 1  # a file that no card names
    other = append_rows(tmp_path, [-rows[0]], ADDED)
    verify(tmp_path, other)
    assert content_of(tmp_path).keys() == {".lock", "bank.json", *other.files}


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    """Neither's rows are lost."""
    card = build(tmp_path)
    rows = stored_of(tmp_path, card, unit(decaying(3)))
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            append_rows(tmp_path, [rows], ADDED)
            os._exit(0)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
    assert read_card(tmp_path).added_rows == 9
    verify(tmp_path, read_card(tmp_path))


def flip(content: bytes) -> bytes:
    """The last byte changed."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("kind", ["rows", "basis", "numbers", "labels"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "changed since the bank was built"),
        (lambda content: content[:-1], "damaged or missing"),
        (lambda content: content + b"0", "damaged or missing"),
        (lambda content: content[:5], "damaged or missing"),
        (lambda content: content.replace(b"64", b"32", 1).replace(b"F32", b"F16", 1), "damaged or missing"),
        (None, "damaged or missing"),
    ],
)
def test_damage(tmp_path: Path, kind: str, spoil: Callable[[bytes], bytes] | None, message: str) -> None:
    """Every kind in every file is found, with the file's name; sizes when it is opened, bytes by `verify`."""
    card = build(tmp_path)
    verify(tmp_path, card)
    (path,) = tmp_path.glob(f"{kind}-*")
    content = path.read_bytes()
    path.unlink() if spoil is None else path.write_bytes(spoil(content))
    with pytest.raises(ValueError, match=message) as refusal:
        verify(tmp_path, card)
    assert str(path) in str(refusal.value)
    if spoil is not flip and kind != "basis":
        with pytest.raises(ValueError, match=message):
            StoredRows(tmp_path, card)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 2', '"format": 1', "format 1, and this version reads 2"),
        ('"file": "rows-', '"file": "../rows-', "which is not in the bank's folder"),
        ('"basis_file": "basis', '"basis_file": "/etc/basis', "which is not in the bank's folder"),
        ('"count": 30', '"count": 31', "has 60 rows for 31 samples in 2 views"),
        ('"kind": "low-rank"', '"kind": "raw"', "kind 'raw' with rank 5"),
        ('"kind": "low-rank"', '"kind": "wide"', "no readable card"),
        ('"rows": 60', '"rows": "many"', "no readable card"),
        ('"width": 12,', "", "no readable card"),
        ("{", "", "no readable card"),
    ],
)
def test_a_card_that_is_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Named, with the way out."""
    build(tmp_path)
    card = tmp_path / "bank.json"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as refusal:
        read_card(tmp_path)
    assert str(card) in str(refusal.value) and "remove the bank's folder" in str(refusal.value)


def test_a_raw_bank_has_no_basis(tmp_path: Path) -> None:
    """Rows are the features at norm 1; asking for the basis says so."""
    card = build(tmp_path, None, numbers=None)
    expected = unit(np.concatenate([decaying(), decaying(seed=3)]))
    np.testing.assert_allclose(StoredRows(tmp_path, card).part(0, 120), expected, atol=1e-7)
    assert (card.kind, card.energy, card.basis_file) == ("raw", 1.0, None)
    with pytest.raises(ValueError, match="a raw bank has no basis"):
        read_basis(tmp_path, card)
