"""`genmem bank`."""

from __future__ import annotations

from pathlib import Path

import pytest
from bank_data import decaying, make
from click.testing import CliRunner, Result

from genmem_bank.commands import bank


def call(*arguments: object) -> Result:
    """One command line."""
    return CliRunner().invoke(bank, [str(argument) for argument in arguments])


def test_info(tmp_path: Path) -> None:
    """What it is, and that its files are whole."""
    card = make(tmp_path, decaying(), rank=5).card
    shown = call("info", tmp_path / "bank")
    assert shown.exit_code == 0
    for part in ("60", "enc, width 12", "5, which keeps 9", card.identity, card.rows_hash, "made up", "fp32"):
        assert part in shown.output
    rows = tmp_path / "bank" / card.rows_file
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    changed = call("info", tmp_path / "bank")
    assert changed.exit_code == 1 and "changed since the bank was built" in changed.output


def test_info_of_a_folder_without_a_bank(tmp_path: Path) -> None:
    """Says how one comes to be."""
    nothing = call("info", tmp_path)
    assert nothing.exit_code == 1 and "no bank here; `genmem bank build RECIPE`" in nothing.output


RECIPE = """
extends = "quickstart"
[data]
path = "digits"
[memory.bank]
path = "bank"
"""


def test_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing but a recipe: data set first, then the bank; again, it is checked; another is refused."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(RECIPE)
    for _ in range(2):
        built = call("build", "mine.toml")
        assert built.exit_code == 0, built.output
        assert "1,437" in built.output and "pca, width 16" in built.output
    other = call("build", "mine.toml", "--memory.bank.rank=8")
    assert other.exit_code == 1 and "rank is 16, expected 8" in other.output
    none = call("build", "mine.toml", "--memory.bank.encoder=absent")
    assert none.exit_code == 1


def test_build_without_a_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that has none is not silently done."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text('extends = "quickstart"\n[condition]\nmemory = "negatives"\n')
    assert call("build", "mine.toml").exit_code != 0
