"""Checkpoints: complete or absent, found by hash when a byte changes, readable on any number of ranks."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import checkpoint_cases as cases
import pytest
import torch
from safetensors.torch import load_file

from genmem.training import checkpoints, integrity, retention, storage
from genmem.training.checkpoints import Checkpoint
from genmem.training.integrity import Damaged
from genmem.training.launch import spawn
from genmem.training.writer import NotSaved, Writer


def state_of(number: float) -> Checkpoint:
    return Checkpoint(
        {"model": {"backbone.w": torch.full((3, 2), number)}, "ema.slow": {"w": torch.full((3, 2), -number)}},
        {"steps": int(number)},
    )


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 3):
        checkpoints.save(tmp_path, 32 * number, state_of(number), keep=3)
    return tmp_path


def images(folder) -> list[int]:
    return [int(path.name) for path in integrity.numbered(folder)]


def test_tensors_of_every_kind_come_back_to_the_bit_and_any_reader_knows_the_files(tmp_path):
    path = checkpoints.save(tmp_path, 64, Checkpoint({"model": cases.whole()}, {"steps": 2}), keep=1)
    found = checkpoints.load(path)
    plain = load_file(path / "model" / "00000.safetensors")
    for name, value in cases.whole().items():
        for other in (found.tensors["model"][name], plain[name]):
            assert other.dtype == value.dtype and torch.equal(other, value), name
    assert found.state["steps"] == 2
    assert not list(tmp_path.rglob("*metadata*")) and not list(tmp_path.glob(".*"))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What three processes wrote, started once."""
    out = tmp_path_factory.mktemp("ranks")
    (out / "full").mkdir()
    spawn(cases.run_three, (out / "checkpoints", out / "full"), 3)
    return out


def test_two_ranks_write_and_one_and_three_read(ranks):
    for number, files in ((0, 2), (96, 3)):
        path = ranks / "checkpoints" / f"{number:012d}"
        integrity.verify(path)
        assert len(list((path / "model").iterdir())) == files
        found = checkpoints.load(path).tensors["model"]
        assert found.keys() == cases.whole().keys()
        assert all(torch.equal(found[name], value) for name, value in cases.whole().items())


def test_retention_keeps_the_newest_and_the_first_after_each_multiple(tmp_path):
    for number in range(1, 9):
        checkpoints.save(tmp_path, 32 * number, state_of(number), keep=8)
    retention.prune(tmp_path, 256, keep=2, keep_every=100)
    assert images(tmp_path) == [128, 224, 256]
    retention.prune(tmp_path, 256, keep=1)
    assert images(tmp_path) == [256]


def test_a_checkpoint_of_a_later_state_does_not_push_out_the_one_just_written(folder):
    """After going back to an older one, the newer ones have bigger numbers."""
    checkpoints.save(folder, 48, state_of(1.5), keep=1)
    assert images(folder) == [48, 64, 96]


def flip(path, offset=-3):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_found_by_hash_and_the_one_before_is_used(folder):
    file = folder / f"{96:012d}" / "model" / "00000.safetensors"
    flip(file)
    with pytest.raises(Damaged, match=r"model/00000.safetensors cannot be read: its sha256"):
        checkpoints.weights(file.parent.parent, "online")
    assert float(checkpoints.weights(file.parent.parent, "slow")["w"][0, 0]) == -3
    told: list[str] = []
    assert integrity.newest(folder, fault_by_hash, told.append) == folder / f"{64:012d}"
    assert len(told) == 1 and str(file) in told[0] and f"going back to {folder / f'{64:012d}'}" in told[0]


def fault_by_hash(path):
    try:
        integrity.verify(path)
    except Damaged as error:
        return str(error)
    return None


def cut_short(path):
    file = path / "ema.slow" / "00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def without_mark(path):
    (path / "complete").unlink()


def other_state(path):
    flip(path / "state.json", 100)


def without_file(path):
    (path / "model" / "00000.safetensors").unlink()


@pytest.mark.parametrize("tear", [cut_short, without_mark, other_state, without_file])
def test_a_torn_checkpoint_is_passed_over_with_a_warning(folder, tear):
    tear(folder / f"{96:012d}")
    with pytest.warns(UserWarning, match=f"{96:012d}.*going back to .*{64:012d}"):
        assert integrity.newest(folder) == folder / f"{64:012d}"
    for number in (32, 64):
        tear(folder / f"{number:012d}")
    with pytest.raises(Damaged, match=r"no checkpoint in .* is whole, delete it to start anew"):
        integrity.newest(folder)


@pytest.mark.parametrize(
    ("version", "way"), [(1, r"genmem \S+ wrote it: finish"), (3, r"genmem \S+ wrote it: update")]
)
def test_another_schema_is_told_and_not_passed_over(folder, version, way):
    file = folder / f"{96:012d}" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": version}))
    with pytest.raises(
        ValueError, match=f"state.json has version {version}, this genmem .* reads 2; .*{way}"
    ):
        integrity.newest(folder)


def test_a_tensor_of_another_shape_is_refused_by_name(folder):
    with pytest.raises(ValueError, match=r"ema.slow: w is \(3, 2\), here it is \(5,\)"):
        checkpoints.load(folder / f"{96:012d}", lambda group, name: torch.zeros(5))


# the writer -----------------------------------------------------------------------------------


def test_training_goes_on_while_the_state_of_the_save_is_written(tmp_path, monkeypatch):
    hold, real = threading.Event(), storage.write_file

    def slow(path, parts):
        assert hold.wait(60)
        return real(path, parts)

    monkeypatch.setattr(storage, "write_file", slow)
    checkpoint = state_of(1)
    with Writer(tmp_path, keep=2) as writer:
        writer.save(32, checkpoint)
        checkpoint.tensors["model"]["backbone.w"].fill_(7)
        assert images(tmp_path) == []
        hold.set()
        writer.settle()
        writer.save(64, checkpoint)
    saved = [float(checkpoints.weights(path, "online")["w"][0, 0]) for path in integrity.numbered(tmp_path)]
    assert saved == [1, 7]


def test_a_full_disk_is_told_with_the_path_and_the_last_good_one_stays(folder, monkeypatch):
    monkeypatch.setattr(storage, "write_file", cases.refuse)
    writer = Writer(folder, keep=3)
    writer.save(128, state_of(4))
    with pytest.raises(NotSaved, match=rf"No space left.*{128:012d}.partial.*last good one is .*{96:012d}"):
        writer.settle()
    assert images(folder) == [32, 64, 96] and not list(folder.glob(".*"))
    writer.save(128, state_of(4))
    writer._thread.join()
    with pytest.raises(NotSaved):
        writer.check()
    writer.check()


def test_a_disk_that_is_full_on_one_rank_is_told_by_every_rank(ranks):
    told = [(ranks / "full" / f"{rank}.txt").read_text() for rank in range(3)]
    assert all("No space left" in line and "none before it" in line for line in told)
    assert images(ranks / "full") == [] and not list((ranks / "full").glob(".*"))


def test_machines_that_do_not_share_the_run_folder_are_told_at_the_first_save(tmp_path):
    spawn(cases.save_in_a_folder_each, (tmp_path,), 2)
    for rank in range(2):
        said = (tmp_path / f"{rank}.txt").read_text()
        assert "process 1's file" in said and "00001.safetensors is not seen from process 0" in said
        assert images(tmp_path / str(rank)) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_kill_while_a_checkpoint_is_replaced_leaves_one_that_is_whole(folder, monkeypatch, number):
    rename, left = Path.rename, iter(range(number))

    def rename_or_die(path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename_or_die)
        checkpoints.save(folder, 96, state_of(3), keep=1)
    retention.tidy(folder)
    assert images(folder)[-1] == 96 and integrity.torn(folder / f"{96:012d}") is None
    assert not list(folder.glob(".*.replaced"))


def test_a_file_that_cannot_be_deleted_harms_neither_the_old_nor_the_new_checkpoint(folder, monkeypatch):
    unlink = os.unlink

    def refuse(path, *more, **words):
        if str(path).endswith("safetensors"):
            raise OSError(16, "Device or resource busy")
        unlink(path, *more, **words)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        checkpoints.save(folder, 96, state_of(4), keep=3)
    path = folder / f"{96:012d}"
    integrity.verify(path)
    assert float(checkpoints.weights(path, "online")["w"][0, 0]) == 4
    retention.tidy(folder)
    assert images(folder) == [32, 64, 96] and not list(folder.glob(".*"))


def test_damaged_checkpoints_that_were_passed_over_do_not_count_among_those_to_keep(folder):
    for number in (64, 96):
        flip(folder / f"{number:012d}" / "model" / "00000.safetensors")
    whole = integrity.newest(folder, fault_by_hash, lambda line: None)
    moved = retention.set_aside(folder, whole)
    assert [path.name for path in moved] == [f"{64:012d}.damaged", f"{96:012d}.damaged"]
    for number in (48, 80):
        checkpoints.save(folder, number, state_of(5), keep=2)
    assert images(folder) == [48, 80] and all(path.is_dir() for path in moved)


def test_what_a_kill_left_half_written_is_no_checkpoint_and_is_written_over(folder):
    left = folder / f".{128:012d}.partial" / "model"
    left.mkdir(parents=True)
    (left / "00007.safetensors").write_bytes(b"half")
    assert integrity.newest(folder) == folder / f"{96:012d}"
    path = checkpoints.save(folder, 128, state_of(4), keep=9)
    assert [file.name for file in (path / "model").iterdir()] == ["00000.safetensors"]
