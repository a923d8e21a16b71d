"""Builds that are killed, that go on, and that several processes share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bank_ranks
import numpy as np
import pytest
import torch
from bank_data import Features, decaying

from genmem.training.launch import spawn
from genmem_bank.building import construction, features
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.team import Team
from genmem_bank.building.unfinished import UNFINISHED
from genmem_bank.storage.card import read_card
from genmem_bank.storage.files import read_basis
from genmem_bank.storage.rows import StoredRows
from genmem_bank.storage.verification import verify


class Counted(Features):
    """Features that note which rows are asked for."""

    asked: list[int] = []  # noqa: RUF012

    def feature(self, split: str, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """A part."""
        self.asked.extend(range(start, stop))
        return super().feature(split, name, start, stop, view)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 17 rows, parts of 5."""
    monkeypatch.setattr(construction, "blocks_of", bank_ranks.cut)
    monkeypatch.setattr(features, "PART_BYTES", 5 * 8 * 12)
    Counted.asked.clear()


def build(folder: Path, seed: int = 0, form: Form | None = None) -> None:
    """A bank of 60 rows in `folder`."""
    dataset = Counted(Path("set"), decaying(seed=seed), name=f"set {seed}")
    made = features.Features(dataset=dataset, encoder="enc", count=60)  # type: ignore[arg-type]
    build_bank(folder, made, form or Form(rank=5))


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a bank's folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def killed_at(monkeypatch: pytest.MonkeyPatch, step: str, call: int, run: Callable[[], None]) -> None:
    """Run in a process that ends, without a word, when it calls a step of the build so often."""
    real, calls = getattr(construction, step), [0]

    def die(*arguments: Any) -> Any:
        calls[0] += 1
        return os._exit(9) if calls[0] == call else real(*arguments)

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        monkeypatch.setattr(construction, step, die)
        run()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize(
    ("step", "call", "there"),
    [
        ("sum_moments", 3, True),
        ("decompose", 1, False),
        ("write_rows", 3, True),
        ("write_rows", 1, False),
        ("name_segment", 2, True),
        ("write_basis", 1, True),
        ("write_card", 1, True),
        ("write_card", 1, False),
    ],
)
def test_killed_it_leaves_the_old_bank_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: int, there: bool
) -> None:
    """And called again it makes the bank that an undisturbed build makes, and nothing beside."""
    build(tmp_path / "undisturbed", seed=1)
    folder = tmp_path / "bank"
    if there:
        build(folder)
        before = files_of(folder)
    killed_at(monkeypatch, step, call, lambda: build(folder, seed=1))
    if there:
        assert before.items() <= files_of(folder).items()
        verify(folder, read_card(folder))
    else:
        assert not (folder / "bank.json").exists()
    build(folder, seed=1)
    assert files_of(folder) == files_of(tmp_path / "undisturbed")
    assert not (folder / UNFINISHED).exists()
    verify(folder, read_card(folder))


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four blocks the moments of two, then the rows of two, then none of the moments."""
    killed_at(monkeypatch, "sum_moments", 3, lambda: build(tmp_path))
    Counted.asked.clear()
    build(tmp_path / "undisturbed")
    whole = sorted(Counted.asked)
    assert whole == sorted([0, *range(60), *range(60)])
    Counted.asked.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(construction, "write_rows", interrupt_third(construction.write_rows))
        build(tmp_path)
    assert sorted(Counted.asked) == sorted([0, *range(34, 60), *range(34)])
    Counted.asked.clear()
    build(tmp_path)
    assert sorted(Counted.asked) == sorted([0, *range(34, 60)])
    assert read_card(tmp_path) == read_card(tmp_path / "undisturbed")


def interrupt_third(real: Callable[..., float]) -> Callable[..., float]:
    """The same, save that Ctrl-C comes at the third call."""
    calls: list[int] = []

    def call(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    return call


@pytest.mark.parametrize("change", ["features", "form", "moments", "rows"])
def test_leftovers_that_do_not_fit_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Those of another build, and files that were cut short or changed since."""
    seed, form = int(change == "features"), Form(rank=4 if change == "form" else 5)
    build(tmp_path / "undisturbed", seed, form)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(construction, "write_rows", interrupt_third(construction.write_rows))
        build(tmp_path / "bank")
    left = tmp_path / "bank" / UNFINISHED
    if change == "moments":
        (left / "basis-5").unlink()
        os.truncate(left / "moments-0001", 1000)
    if change == "rows":
        content = bytearray((left / "rows").read_bytes())
        content[200] ^= 1
        (left / "rows").write_bytes(content)
    build(tmp_path / "bank", seed, form)
    assert files_of(tmp_path / "bank") == files_of(tmp_path / "undisturbed")


def test_two_processes_build_the_bank_of_one(tmp_path: Path) -> None:
    """And where one finds a bad sample, both say so."""
    bank_ranks.build(tmp_path / "alone", decaying(), decaying(seed=3), Team())
    spawn(bank_ranks.build_together, (tmp_path,), 2)
    found = []
    for name in ("alone", "together"):
        card, basis = read_card(tmp_path / name), read_basis(tmp_path / name, read_card(tmp_path / name))
        verify(tmp_path / name, card)
        rows = StoredRows(tmp_path / name, card).part(0, 120) @ basis.basis_ER.T + basis.mean_E
        found.append((rows, basis.singular_R, card.error, card.energy))
    for alone, together in zip(*found, strict=True):
        np.testing.assert_allclose(alone, together, atol=1e-5)
    errors = [(tmp_path / f"error-{rank}").read_text() for rank in range(2)]
    assert "another process failed" in errors[0]
    assert "of sample 55, mirrored, is not finite" in errors[1]
    assert not (tmp_path / "spoiled").exists()


@pytest.mark.parametrize(("pieces", "world"), [(1, 2), (4, 2), (5, 3), (64, 7)])
def test_every_piece_is_somebodys(pieces: int, world: int) -> None:
    """Once, and in order."""
    shares = [Team(rank, world).share(range(pieces)) for rank in range(world)]
    assert [piece for share in shares for piece in share] == list(range(pieces))
