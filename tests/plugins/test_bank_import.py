"""Banks from files as GMem published them, and from files that are after something else."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bank_data import FACTS, decaying, unit
from click.testing import CliRunner

from genmem_bank import SvdBankConfig
from genmem_bank.changing.importing import import_bank
from genmem_bank.commands.build_commands import bank
from genmem_bank.looking.description import show_bank
from genmem_bank.storage.card import Card
from genmem_bank.storage.files import read_basis
from genmem_bank.storage.rows import StoredRows
from genmem_bank.storage.verification import verify

ROWS = torch.from_numpy(40.0 * decaying())


def imported(folder: Path, content: object, **options: Any) -> tuple[Card, np.ndarray]:
    """The bank of a file that holds this: its card, and what is stored."""
    torch.save(content, folder / "published.pth")
    card = import_bank(folder / "published.pth", folder / "bank", "enc", **options).card
    verify(folder / "bank", card)
    return card, StoredRows(folder / "bank", card).part(0, card.rows)


def decomposed(rows: torch.Tensor, rank: int) -> dict[str, Any]:
    """As GMem's code decomposes rows: C = U √S, M = V √S."""
    mean = rows.mean(0)
    u, s, vt = torch.linalg.svd(rows - mean, full_matrices=False)
    root = s[:rank].sqrt()
    parts = {"C": u[:, :rank] * root, "M": vt[:rank].T * root, "S": s[:rank], "mean": mean}
    return parts | {"latent_dim": rank, "feature_dim": rows.shape[1]}


def read_rows(folder: Path, rank: int | None) -> np.ndarray:
    """Rows as a model is given them."""
    config = SvdBankConfig(path=str(folder / "bank"), encoder="enc", rank=rank or "raw", mask="none")
    return config.build(FACTS).rows(torch.arange(60))[:, 0].numpy()


@pytest.mark.parametrize("form", ["tensor", "half", "first version"])
def test_rows(tmp_path: Path, form: str) -> None:
    """A bare tensor, or a checkpoint that holds one: a raw bank of rows of norm 1."""
    content: Any = ROWS.half() if form == "half" else ROWS
    if form == "first version":
        content = {"network": {"w": torch.ones(3)}, "memorybank": ROWS, "memoryfreq": torch.ones(60)}
    card, rows = imported(tmp_path, content)
    assert (card.kind, card.rank, card.width, card.rows, card.added_rows) == ("raw", None, 12, 60, 0)
    np.testing.assert_allclose(rows, unit(ROWS.numpy()), atol=1e-3 if form == "half" else 1e-7)
    np.testing.assert_allclose(read_rows(tmp_path, None), rows, atol=1e-6)
    assert StoredRows(tmp_path / "bank", card).samples(np.arange(60))[0].tolist() == [-1] * 60


@pytest.mark.parametrize("rank", [4, 12])
@pytest.mark.parametrize("norm", [1.0, 40.0])
def test_a_decomposition(tmp_path: Path, norm: float, rank: int) -> None:
    """Coefficients as they are if rows had norm 1; a model is given what GMem's code gives it."""
    rows = ROWS.double() / ROWS.double().norm(dim=1, keepdim=True)
    if norm != 1:
        rows = ROWS.double()
    content = decomposed(rows, rank)
    card, stored = imported(tmp_path, content)
    whole = content["C"] @ content["M"].T + content["mean"]
    expected = torch.nn.functional.normalize(whole, dim=1).numpy()
    np.testing.assert_allclose(read_rows(tmp_path, rank), expected, atol=1e-5)
    basis = read_basis(tmp_path / "bank", card)
    found = stored @ basis.basis_ER.T + basis.mean_E
    assert np.square(found).sum(1).mean() <= 1 + 1e-6
    np.testing.assert_allclose(basis.basis_ER.T @ basis.basis_ER, np.diag(basis.singular_R), atol=1e-9)
    assert (card.kind, card.rank, card.energy) == ("low-rank", rank, None)
    if norm == 1:
        np.testing.assert_allclose(stored, content["C"].numpy(), atol=1e-7)
    assert "not known" in show_bank(tmp_path / "bank", card)


def test_the_command(tmp_path: Path) -> None:
    """Says what it left out, and what rows were divided by."""
    torch.save({"memorybank": ROWS, "memoryfreq": torch.ones(60), "network": {}}, tmp_path / "one.pth")
    torch.save(decomposed(ROWS, 5), tmp_path / "two.pth")
    options = ["--encoder", "enc"]
    done = CliRunner().invoke(
        bank, ["import", str(tmp_path / "one.pth"), "-o", str(tmp_path / "a"), "--dtype", "fp16", *options]
    )
    assert done.exit_code == 0 and "left out: memoryfreq, network" in done.output and "fp16" in done.output
    done = CliRunner().invoke(
        bank, ["import", str(tmp_path / "two.pth"), "-o", str(tmp_path / "b"), *options]
    )
    norm = float(ROWS.double().square().sum(1).mean().sqrt())
    assert done.exit_code == 0 and f"a norm of about {norm:.3g}"[:22] in done.output
    again = CliRunner().invoke(
        bank, ["import", str(tmp_path / "two.pth"), "-o", str(tmp_path / "b"), *options]
    )
    assert again.exit_code == 1 and "nothing is overwritten" in again.output


def changed(**parts: Any) -> dict[str, Any]:
    """A decomposition of which something is wrong."""
    return decomposed(ROWS, 5) | parts


NAN = torch.where(torch.arange(60)[:, None] == 41, torch.nan, ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NAN, "row 41 is zero or not finite"),
        (ROWS * (torch.arange(60)[:, None] != 7), "row 7 is zero or not finite"),
        (ROWS[0], r"memorybank is torch.float32 \(12,\), expected a matrix"),
        (ROWS.long(), "memorybank is torch.int64"),
        (ROWS[:0], r"\(0, 12\), expected a matrix"),
        ({"memorybank": [1, 2]}, "memorybank is list"),
        ({"C": ROWS, "S": ROWS}, "holds C, S; a bank is"),
        ([ROWS], "holds list; a bank is"),
        (changed(M=torch.ones(12, 4)), "do not fit each other"),
        (changed(mean=torch.ones(11)), "do not fit each other"),
        (changed(S=torch.tensor([3.0, 2, 1, 1, 0])), "a singular value in S is not above 0"),
        (changed(S=torch.ones(5, 1)), "S is torch.float32 .5, 1., expected numbers in 1 dimensions"),
        (changed(mean=torch.full((12,), torch.nan)), "mean holds numbers that are not finite"),
        (changed(C=torch.full((60, 5), torch.inf)), "a row is not finite"),
        ({key: value for key, value in changed().items() if key != "M"}, "a bank is a tensor"),
    ],
)
def test_files_that_hold_no_bank(tmp_path: Path, content: object, message: str) -> None:
    """Each says what was found; nothing is written."""
    with pytest.raises(ValueError, match=message) as refusal:
        imported(tmp_path, content)
    assert not (tmp_path / "bank").exists()
    assert str(tmp_path) in str(refusal.value)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def plant(path: Path, kind: str, proof: Path) -> None:
    """A file that runs something when it is read carelessly."""
    attack = Attack(proof)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(attack))
    elif kind == "zip":
        torch.save(attack, path)
    elif kind == "beside a bank":
        torch.save({"memorybank": ROWS, "memoryfreq": attack}, path)
    elif kind == "inside a dict's class":
        torch.save({"memorybank": ROWS, "network": OrderedDict(w=attack)}, path)
    elif kind == "old format":
        torch.save({"memorybank": attack}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("kind", ["pickle", "zip", "beside a bank", "inside a dict's class", "old format"])
def test_nothing_in_a_file_is_run(tmp_path: Path, kind: str) -> None:
    """Refused by name; an ordinary `pickle.load` of the same file would have run it."""
    path, proof = tmp_path / "published.pth", tmp_path / "proof"
    plant(path, kind, proof)
    with pytest.raises(ValueError, match=r"mkdir|cannot be read as weights"):
        import_bank(path, tmp_path / "bank", "enc")
    assert not proof.exists() and not (tmp_path / "bank").exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert proof.exists()


def test_a_tensor_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """Of a file cut short, and of one whose storage was cut while its shape stayed."""
    torch.save(ROWS, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "short.pth").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(tmp_path / "cut.pth", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:64] if name.endswith("data/0") else data)
    for name in ("short.pth", "cut.pth"):
        with pytest.raises(ValueError, match=name):
            import_bank(tmp_path / name, tmp_path / "bank", "enc")
        assert not (tmp_path / "bank").exists()
