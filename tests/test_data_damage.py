"""Damaged samples: one ends the run, or is replaced by another that the data alone decides."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_fakes import SEVEN, shape_latent, write_split

from genmem.data.errors import DataError
from genmem.data.streaming.damage import find_sound, read_problems
from genmem.data.streaming.order import permute_epoch
from genmem.data.streaming.shards import ShardSet
from genmem.data.streaming.stream import Stream

TOTAL = sum(SEVEN)
SPEC = shape_latent()
FIRST = np.cumsum([0, *SEVEN])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound")
    write_split(path, SEVEN, views=2)
    return path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def flip(folder: Path, number: int, member: str = "x.npy") -> None:
    """Change a byte in the values of a sample."""
    shards = ShardSet.open(folder, tolerant=True)
    shard = int(shards.shard_of(np.array([number]))[0])
    place = int(shards.index.fields[member].offset_N[number]) + 150
    with (folder / f"{shard:06d}.tar").open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x40]))


def cut(folder: Path, shard: int) -> None:
    path = folder / f"{shard:06d}.tar"
    os.truncate(path, path.stat().st_size - 512)


def stream(folder: Path, skip: int | None = None, **more: Any) -> Stream:
    shards = ShardSet.open(folder, check=True, tolerant=skip is not None)
    return Stream(shards, SPEC, **({"seed": 5, "batch": 8, "skip": skip} | more))


def read(source: Stream, steps: int = 10) -> np.ndarray:
    """(rows, 4): number, view, epoch and what x says its number and view are."""
    rows = []
    for step in range(steps):
        for b in source.batches(step):
            told = (b.x[:, 0, 0, 0] + 1) / 0.5
            rows.append(torch.stack([b.index_B, b.view_B, b.round_B, told.long()], 1))
    source.close()
    return torch.cat(rows).numpy()


KINDS: dict[str, tuple[Callable[[Path], None], str, set[int]]] = {
    "flipped byte": (
        lambda folder: [flip(folder, 20, m) for m in ("x.npy", "x.mirror.npy")] and None,
        r"000004.tar: sample '00000020': x\.(mirror\.)?npy: damaged: its checksum differs",
        {20},
    ),
    "truncated": (lambda folder: cut(folder, 2), r"000002.tar: \d+ bytes, manifest", set(range(6, 15))),
    "missing": (
        lambda folder: (folder / "000001.tar").unlink(),
        r"000001.tar: missing, though manifest.json lists it",
        {5},
    ),
    "foreign": (
        lambda folder: (folder / "000006.tar").write_bytes(bytes((folder / "000006.tar").stat().st_size)),
        r"000006.tar: sample '00000032': expected '00000032.cls'",
        set(range(32, 40)),
    ),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_the_run_by_name(folder: Path, kind: str, workers: int) -> None:
    damage, message, _ = KINDS[kind]
    damage(folder)
    with pytest.raises(DataError, match=message):
        read(stream(folder, workers=workers))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_skipped_is_replaced_and_reported(
    folder: Path, sound: Path, tmp_path: Path, kind: str
) -> None:
    damage, message, gone = KINDS[kind]
    before = read(stream(sound))
    damage(folder)
    source = stream(folder, skip=len(gone))
    rows = read(source)
    # Never fewer samples: every row that was sound is the row it was, the others are other samples.
    assert len(rows) == len(before)
    hurt = np.isin(before[:, 0], list(gone))
    assert hurt.any() and np.array_equal(rows[~hurt], before[~hurt])
    assert not np.isin(rows[:, 0], list(gone)).any()
    # Number, view and x are of one sample.
    assert np.array_equal(rows[:, 0] + 1000 * rows[:, 1], rows[:, 3])
    assert np.array_equal(rows[:, 2], before[:, 2])
    # One coin per sample and epoch, wherever the sample stands.
    assert len({(n, e) for n, _, e, _ in rows.tolist()}) == len({(n, v, e) for n, v, e, _ in rows.tolist()})
    assert source.damages is not None and source.damages.samples == gone
    source.damages.write_to(tmp_path / "damaged.jsonl")
    found = read_problems(tmp_path / "damaged.jsonl")
    assert found and all(re.search(message, problem) for problem in found)
    # One bad sample out of twelve is replaced by one of the same shard.
    if kind == "flipped byte":
        assert set(rows[hurt][:, 0]) <= set(range(FIRST[4], FIRST[5])) - gone


@pytest.mark.parametrize("lanes", [1, 4])
def test_replacements_do_not_depend_on_ranks_workers_or_restarts(folder: Path, lanes: int) -> None:
    flip(folder, 20), flip(folder, 31, "near.mirror.npy"), cut(folder, 3)
    dealt: dict[str, Any] = {"lanes": lanes, "window": 2}
    alone = read(stream(folder, 10, **dealt))
    for workers in (1, 3):
        assert np.array_equal(read(stream(folder, 10, workers=workers, **dealt)), alone)
    ranks = [read(stream(folder, 10, rank=r, world=2, **dealt)).reshape(10, 4, 4) for r in range(2)]
    assert np.array_equal(np.concatenate(ranks, 1).reshape(-1, 4), alone)
    # A restart in the middle knows nothing of what was found before.
    fresh = stream(folder, 10, **dealt)
    (batch,) = fresh.batches(7)
    assert np.array_equal(batch.index_B.numpy(), alone[56:64, 0])
    assert np.array_equal(batch.view_B.numpy(), alone[56:64, 1])


def test_one_view_of_a_sample_may_be_damaged_and_the_other_serve(folder: Path, sound: Path) -> None:
    flip(folder, 20, "x.mirror.npy")
    before, rows = read(stream(sound), 60), read(stream(folder, 1), 60)
    views = before[before[:, 0] == 20][:, 1]
    assert set(views) == {0, 1}
    kept = rows[(before[:, 0] == 20) & (before[:, 1] == 0)]
    assert (kept[:, 0] == 20).all()
    assert not (rows[(before[:, 0] == 20) & (before[:, 1] == 1)][:, 0] == 20).any()


def test_more_damage_than_allowed_ends_the_run(folder: Path) -> None:
    flip(folder, 20), flip(folder, 31), flip(folder, 7)
    with pytest.raises(DataError, match=r"3 samples are damaged so far, data.max_skipped = 2; restore"):
        read(stream(folder, 2, views=1))
    cut(folder, 2)
    with pytest.raises(DataError, match=r"9 samples are damaged so far, data.max_skipped = 8"):
        stream(folder, 8)


def test_where_everything_is_damaged_it_says_so(tmp_path: Path) -> None:
    write_split(tmp_path, (3,))
    for number in range(3):
        flip(tmp_path, number)
    with pytest.raises(DataError, match="none of 64 samples tried in its place is sound"):
        read(stream(tmp_path, 100, batch=1), 3)


def test_the_report_holds_every_problem_once_across_restarts(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "damaged.jsonl"
    flip(folder, 20), cut(folder, 3)
    for _ in range(2):
        source = stream(folder, 10, views=1)
        assert source.damages is not None
        source.damages.write_to(file)
        read(source)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == len({line["problem"] for line in lines}) == 2
    with file.open("a") as cut_short:
        cut_short.write('{"problem": "x')
    assert sum(read_problems(file).values()) == 1 + SEVEN[3]


def test_a_shard_that_shrinks_while_it_is_read_is_named(folder: Path) -> None:
    """Mapped memory would end the process here."""
    shards = ShardSet.open(folder)
    shards.read("x", np.arange(TOTAL))
    os.truncate(folder / "000004.tar", 3000)
    with pytest.raises(DataError, match=r"000004.tar: sample '000000\d\d': x.npy: truncated: the shard ends"):
        shards.read("x", np.arange(TOTAL))


def test_what_a_disk_cannot_read_is_named_and_never_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stream(folder, 100)

    def fail(*args: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DataError, match=r"sample '\d+': cannot be read: .*Input/output error") as caught:
        source.batches(0)
    assert isinstance(caught.value.__cause__, OSError)
    assert source.damages is not None and not source.damages.samples


def test_epochs_still_hold_every_sound_sample_once(folder: Path) -> None:
    flip(folder, 20)
    rows = read(stream(folder, 1, views=1))
    for epoch in range(2):
        order = permute_epoch(5, epoch, SEVEN)
        numbers = rows[rows[:, 2] == epoch][:, 0]
        assert np.array_equal(numbers[order != 20], order[order != 20])


def test_what_reads_every_sample_is_told_which_are_sound(folder: Path) -> None:
    flip(folder, 20), flip(folder, 31, "x.mirror.npy"), cut(folder, 3)
    shards = ShardSet.open(folder, check=True, tolerant=True)
    gone = {20, *range(FIRST[3], FIRST[4])}
    assert find_sound(shards).tolist() == [n for n in range(TOTAL) if n not in gone]
