"""Adding to a bank, points between its rows, searching it: equations 10 and 11, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bank_data import FACTS, Features, batch_of, configure, decaying, make, unit

from genmem_bank.changing.adding import Editor, add_features, add_file
from genmem_bank.changing.interpolating import interpolate, shares
from genmem_bank.looking.searching import search
from genmem_bank.storage.card import Added, read_card

RAW = {"rank": "raw"}
FORMS: Sequence[dict[str, Any]] = ({"rank": 5}, {"rank": 12}, RAW)


def named(count: int) -> Added:
    """Names of so many things."""
    return Added(what=tuple(f"thing {number}" for number in range(count)), hashes=("0",) * count)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


@pytest.mark.parametrize("form", FORMS)
def test_adding_a_stored_feature_reproduces_its_row(tmp_path: Path, form: dict[str, Any]) -> None:
    """Equation 10, for features of any length; identity and rows there stay, the rows' hash does not."""
    bank = make(tmp_path, decaying(), **form)
    card = add_features(tmp_path / "bank", 7.0 * decaying()[[3, 59, 0]], named(3))
    grown = bank.config.build(FACTS)
    assert grown.num_rows == card.rows == 63 and card.added_rows == 3
    assert grown.fingerprint() == bank.fingerprint() and card.rows_hash != bank.card.rows_hash
    every, before = grown.rows(torch.arange(63))[:, 0], bank.rows(torch.arange(60))[:, 0]
    assert torch.equal(every[:60], before)
    torch.testing.assert_close(every[60:], before[[3, 59, 0]], atol=2e-6, rtol=0)
    assert grown.samples_of(torch.tensor([59, 60, 62])).tolist() == [59, -1, -1]


@pytest.mark.parametrize("rank", [5, 12])
def test_equation_10_in_float64(tmp_path: Path, rank: int) -> None:
    """c = (f - μ) B / S with B = V Σ^½: against NumPy's decomposition, by what it decodes to."""
    make(tmp_path, decaying(), rank=rank)
    new = decaying(4, seed=9).astype(np.float64)
    editor = Editor(tmp_path / "bank")
    decoded = editor.code.decode(torch.from_numpy(editor.encode(new, ["a"] * 4))).numpy()
    m = unit(decaying())
    _, _, vt = np.linalg.svd(m - m.mean(0), full_matrices=False)
    expected = (unit(new) - m.mean(0)) @ vt[:rank].T @ vt[:rank] + m.mean(0)
    np.testing.assert_allclose(decoded, expected, atol=1e-9)


def test_added_rows_do_not_disturb_training(tmp_path: Path) -> None:
    """Own rows, drawn rows and what attention hides are as before."""
    from genmem.contracts import Hide
    from genmem.draws import Draws

    index = np.array([3, 59, 0, 3])
    bank = make(tmp_path, decaying(), rank=5, train_row="drawn")
    batch, draws = batch_of(index), Draws(0, torch.arange(4))
    before = bank.read(batch, None, draws)
    add_features(tmp_path / "bank", decaying(5, seed=4), named(5))
    grown = bank.config.build(FACTS)
    assert torch.equal(grown.read(batch, None, draws), before)
    own = configure(tmp_path, rank=5).build(FACTS)
    assert torch.equal(own.read(batch, None, None), own.rows(batch.index_B))
    assert grown.attend(torch.randn(4, 12), 3.0, Hide(batch.index_B)).count_B.tolist() == [64.0] * 4


@pytest.mark.parametrize("form", FORMS)
def test_equation_11(tmp_path: Path, form: dict[str, Any]) -> None:
    """The ends exactly; between them a·c_i + (1 - a)·c_j, and so the same of rows before their norm."""
    make(tmp_path, decaying(), **form)
    editor = Editor(tmp_path / "bank")
    first, second = editor.take([4, 9])
    found = interpolate(editor, first, second, [1.0, 0.0, 0.3])
    assert np.array_equal(found[:2], [first, second])
    np.testing.assert_allclose(found[2], 0.3 * first + 0.7 * second, atol=1e-12)
    rows = editor.code.decode(torch.from_numpy(np.stack([first, second, found[2]]))).numpy()
    np.testing.assert_allclose(rows[2], 0.3 * rows[0] + 0.7 * rows[1], atol=1e-12)
    np.testing.assert_allclose(shares(9), np.arange(9, 0, -1) / 10, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_spherical_interpolation_divides_the_angle(tmp_path: Path, form: dict[str, Any]) -> None:
    """Rows of norm 1 are those of slerp, and the bank's own: they lie on its affine set."""
    bank = make(tmp_path, decaying(), **form)
    editor = Editor(tmp_path / "bank")
    first, second = editor.take([4, 9])
    share = np.array([1.0, 0.0, 0.25, 0.5])
    found = interpolate(editor, first, second, share.tolist(), spherical=True)
    assert np.array_equal(found[:2], [first, second])
    a, b = (unit(editor.code.decode(torch.from_numpy(end[None])).numpy())[0] for end in (first, second))
    angle = np.arccos(a @ b)
    slerp = [(np.sin(s * angle) * a + np.sin((1 - s) * angle) * b) / np.sin(angle) for s in share]
    np.testing.assert_allclose(unit(editor.code.decode(torch.from_numpy(found)).numpy()), slerp, atol=1e-9)
    ends = [torch.from_numpy(end).float().expand(4, -1) for end in (first, second)]
    mixed = bank.decode(bank.mix(*ends, torch.from_numpy(share).float(), spherical=True))[:, 0]
    np.testing.assert_allclose(mixed.numpy(), slerp, atol=1e-5)


def test_search(tmp_path: Path) -> None:
    """By a full product; a row finds itself; an added row says what it was made of."""
    make(tmp_path, decaying(), rank=12)
    add_features(tmp_path / "bank", decaying(2, seed=5), named(2))
    editor = Editor(tmp_path / "bank")
    rows = unit(editor.code.decode(torch.from_numpy(editor.take(range(62)))).numpy())
    found = search(tmp_path / "bank", editor.take([17, 61]), 3)
    assert found[0][0][:1] == (17,) and found[0][0].sample == 17
    assert (found[1][0].row, found[1][0].sample, found[1][0].what) == (61, -1, "thing 1")
    for near, query in zip(found, (17, 61), strict=True):
        expected = np.argsort(-(rows @ rows[query]), kind="stable")[:3]
        assert [one.row for one in near] == expected.tolist()
        np.testing.assert_allclose([one.product for one in near], (rows @ rows[query])[expected], atol=1e-5)


BAD = decaying(3)
NAN, ZERO = BAD.copy(), BAD.copy()
NAN[1, 3], ZERO[2] = np.nan, 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (BAD[:, :7], r"shape \(3, 7\), but the bank's rows have width 12"),
        (BAD.astype(np.int64), "features are int64, expected floating point"),
        (NAN, "thing 1: its feature is not finite"),
        (ZERO, "thing 2: its feature is zero"),
        (BAD[:2], "2 features for 3 names"),
    ],
)
def test_what_cannot_be_added_changes_nothing(tmp_path: Path, rows: np.ndarray, message: str) -> None:
    """Named, and the folder stays byte for byte."""
    make(tmp_path, decaying(), rank=5)
    before = content(tmp_path / "bank")
    with pytest.raises(ValueError, match=message):
        add_features(tmp_path / "bank", rows, named(3))
    assert content(tmp_path / "bank") == before


def test_a_row_that_is_not_there(tmp_path: Path) -> None:
    """An end of an interpolation, say."""
    make(tmp_path, decaying(), rank=5)
    with pytest.raises(IndexError, match="row 60 was asked for, but the bank's rows are 0 to 59"):
        Editor(tmp_path / "bank").take([60])


def test_a_bank_built_anew_meanwhile(tmp_path: Path) -> None:
    """Its basis is another, so what was encoded for the old one is refused."""
    make(tmp_path, decaying(), rank=5)
    editor = Editor(tmp_path / "bank")
    coded = editor.encode(decaying(2, seed=4), ["a", "b"])
    for path in (tmp_path / "bank").iterdir():
        path.unlink()
    config = configure(tmp_path, rank=5)
    config.prepare(Features(tmp_path, decaying(seed=1)))
    before = content(tmp_path / "bank")
    with pytest.raises(ValueError, match="built anew meanwhile"):
        editor.append(iter([coded]), named(2))
    assert content(tmp_path / "bank") == before


def test_a_file_of_features(tmp_path: Path) -> None:
    """A .npy, never a pickle."""
    make(tmp_path, decaying(), rank=5)
    np.save(tmp_path / "new.npy", decaying(3, seed=2))
    card = add_file(tmp_path / "bank", tmp_path / "new.npy")
    origin = card.segments[-1].origin.added
    assert origin is not None and origin.what[2] == "new.npy[2]" and len(origin.hashes[0]) == 64
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"bad.npy: no .npy file of one array"):
        add_file(tmp_path / "bank", tmp_path / "bad.npy")


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from genmem_bank.changing.adding import Editor
from genmem_bank.storage.card import Added
editor = Editor(Path(sys.argv[1]))
def parts():
    for number in range(3):
        print(number, flush=True)
        if number == 2:
            time.sleep(60)
        yield np.ones((1, 5))
editor.append(parts(), Added(what=("a", "b", "c"), hashes=("", "", "")))
"""


def test_killed_while_adding(tmp_path: Path) -> None:
    """The old bank is there whole, and whoever adds next clears up what was left."""
    bank = make(tmp_path, decaying(), rank=5)
    before = content(tmp_path / "bank")
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    child = subprocess.Popen(
        [sys.executable, script, tmp_path / "bank"], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() != "2":
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert before.items() <= content(tmp_path / "bank").items()
    assert bank.config.build(FACTS).num_rows == 60
    card = add_features(tmp_path / "bank", decaying(2, seed=3), named(2))
    assert set(content(tmp_path / "bank")) == {*card.files, "bank.json"}
    assert read_card(tmp_path / "bank").rows == 62
