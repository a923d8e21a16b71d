"""The fault table of docs/training.md, row by row: what goes wrong, and what is left.

Kills of real processes at 20 random moments are slow: `pytest -m slow tests/test_faults.py`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from killing import dying_in_write, everything, go, same_end, same_records
from running import ROOT, wait_for

from genmem.data.errors import DataError
from genmem.host import load_catalog
from genmem.training.folder import RunFolder
from genmem.training.integrity import Damaged, newest, numbered
from genmem.training.trainer import Trainer
from genmem.training.writer import NotSaved


@pytest.fixture(scope="module")
def recipe(data):
    """A NaN batch on the way."""
    return everything(data)


class Straight(NamedTuple):
    trainer: Trainer
    path: Path

    def is_end_of(self, trainer: Trainer, path: Path) -> None:
        """What went wrong in between has left no trace: equal to the bit, and the logs as well."""
        same_end(self.trainer, trainer)
        same_records(self.path, path)


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory) -> Straight:
    """A run that nothing happens to."""
    path = tmp_path_factory.mktemp("straight") / "run"
    return Straight(go(recipe, path), path)


def saved(path: Path) -> list[Path]:
    return numbered(path / "checkpoints")


def images(path: Path) -> list[int]:
    return [int(found.name) for found in saved(path)]


def test_a_nan_batch_costs_one_step(straight):
    trainer = straight.trainer
    assert trainer.finished and trainer.guard.skipped == 1 and trainer.guard.rollbacks == 0
    (line,) = (straight.path / "skipped.jsonl").read_text().splitlines()
    sick = trainer.recipe.objective["poison"].objective.config.sample
    assert json.loads(line)["images"] == 160 and sick in json.loads(line)["samples"]


def test_the_line_of_a_nan_batch_is_json_and_of_the_steps_that_were_kept(straight):
    text = (straight.path / "metrics.jsonl").read_text()
    records = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    lines = {one["images"]: one for one in records if "loss/denoise" in one}
    assert {seen: one["skipped_steps"] for seen, one in lines.items() if "skipped_steps" in one} == {192: 1}
    assert lines.keys() == {64, 128, 192, 256, 320, 384}
    assert {"loss/total", "objective/poison", "gradient_norm"} <= lines[192].keys()


def test_a_log_that_cannot_be_written_ends_the_run_with_its_path_and_the_last_good_checkpoint(
    recipe, straight, tmp_path, monkeypatch
):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, open_file = tmp_path / "run", Path.open

    def open_or_fill(file, *mode, **more):
        full = file.name == "metrics.jsonl" and mode == ("a",) and images(path)[-1:] == [96]
        return Full() if full else open_file(file, *mode, **more)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device") as error:
        patch.setattr(Path, "open", open_or_fill)
        go(recipe, path, after={3: settle})
    assert str(error.value).startswith(f"{path}/metrics.jsonl cannot be written: ")
    assert str(error.value).endswith(f"the last good checkpoint is {path}/checkpoints/{96:012d}")
    straight.is_end_of(go(recipe, path), path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_where_nothing_can_be_written_the_run_ends_and_the_last_good_state_stays(
    recipe, straight, tmp_path, monkeypatch, code
):
    """A full disk and a read-only folder, in the midst of the third save: the first has no optimizer."""
    model = 6  # model, optimizer, two averages, queue; state.json, complete: one file more
    path = tmp_path / "run"
    steps: list[int] = []
    with (
        pytest.raises(NotSaved) as error,
        dying_in_write(monkeypatch, model + model + 1 + 2, OSError(code, os.strerror(code), "a/file")),
    ):
        go(recipe, path, after={6: settle, 7: lambda: steps.append(7)})
    assert not steps  # the save is due after six steps, and the seventh is the last
    said = str(error.value)
    assert os.strerror(code) in said and "a/file" in said
    assert said.endswith(f"the last good one is {path}/checkpoints/{96:012d}")
    assert images(path) == [0, 96] and not list((path / "checkpoints").glob(".*"))
    straight.is_end_of(go(recipe, path), path)


def settle() -> None:
    """Wait until the save that was begun is over."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()


def test_a_folder_that_is_removed_is_made_again_by_the_next_save(recipe, straight, tmp_path):
    path = tmp_path / "run"
    folder = RunFolder(path)
    folder.begin(recipe, load_catalog(tuple(Path(file) for file in recipe.plugins)), [])
    written = folder.recipe.read_text()

    def remove() -> None:
        settle()
        shutil.rmtree(path)

    trainer = go(recipe, folder, after={5: remove})
    assert images(path)[-1] == 384 and folder.recipe.read_text() == written
    assert (path / "environment.json").exists() and (path / "plugins" / "stress.py").exists()
    logged = [json.loads(line)["images"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert logged == [160, 192, 256, 320, 384, 384]  # a step skipped, lines, scores
    same_end(straight.trainer, trainer)


def test_a_flipped_byte_is_found_and_the_checkpoint_before_is_used(recipe, straight, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(recipe, path, after={8: interrupt})
    *_, before, last = saved(path)
    file, said = last / "model" / "00000.safetensors", io.StringIO()
    content = bytearray(file.read_bytes())
    content[-7] ^= 4
    file.write_bytes(content)
    trainer = go(recipe, path, said=said)
    assert f"{file} cannot be read: its sha256 is" in said.getvalue()
    assert f"going on from 96 images ({before})" in said.getvalue()
    straight.is_end_of(trainer, path)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_older_schema_is_refused_and_left_as_it_is(recipe, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(recipe, path, after={4: interrupt})
    file = saved(path)[-1] / "state.json"
    old = json.dumps({**json.loads(file.read_text()), "version": 1, "genmem": "0.0.7"})
    file.write_text(old)
    with pytest.raises(ValueError, match=r"state.json has version 1, this genmem \(\S+\) reads \d") as error:
        go(recipe, path)
    assert not isinstance(error.value, Damaged) and "genmem 0.0.7 wrote it: finish" in str(error.value)
    assert file.read_text() == old


@pytest.mark.usefixtures("recipe")
def test_a_shard_that_is_cut_or_gone_is_named_and_when_it_is_back_the_run_goes_on(data, tmp_path):
    """An open shard that is deleted is read on; one that is cut ends the run, one that is missing a start."""
    shutil.copytree(data / "digits", tmp_path / "data" / "digits")
    recipe, path = everything(tmp_path / "data"), tmp_path / "run"
    shard = tmp_path / "data" / "digits" / "train" / "000000.tar"
    whole = shard.read_bytes()
    with pytest.raises(DataError, match=r"000000\.tar"):
        go(recipe, path, after={7: lambda: os.truncate(shard, 1000)})
    assert images(path) == [96, 192]
    shard.unlink()
    with pytest.raises(DataError, match=r"000000\.tar: missing"):
        go(recipe, path)
    shard.write_bytes(whole)
    same_end(go(recipe, tmp_path / "other", after={7: shard.unlink}), _with(shard, whole, recipe, path))


def _with(shard: Path, whole: bytes, recipe, path: Path):
    shard.write_bytes(whole)
    return go(recipe, path)


# a real process -------------------------------------------------------------------------------

IN_A_PROCESS = """
import os, signal, sys
from pathlib import Path
from killing import everything, go
from genmem.training import storage
recipe, folder, number = everything(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
write, left = storage.write_file, iter(range(number))
def write_or_die(path, parts):
    if next(left, None) is None:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, parts)
storage.write_file = write_or_die
go(recipe, folder)
"""


def in_a_process(data: Path, folder: Path, writes: int) -> subprocess.Popen[str]:
    tests = ROOT / "tests"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}:{tests / 'stress'}"}
    words = [sys.executable, "-c", IN_A_PROCESS, str(data), str(folder), str(writes)]
    return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)


def test_a_kill_in_the_midst_of_a_save_leaves_the_one_before(data, recipe, straight, tmp_path):
    path = tmp_path / "run"
    assert in_a_process(data, path, 10).wait(timeout=240) == -signal.SIGKILL
    assert images(path) == [0] and list((path / "checkpoints").glob(".*.partial"))
    assert newest(path / "checkpoints") == saved(path)[0]
    straight.is_end_of(go(recipe, path), path)
    assert not list((path / "checkpoints").glob(".*.partial"))


@pytest.mark.slow
def test_real_processes_killed_at_20_random_moments_end_the_same_to_the_bit(data, recipe, straight, tmp_path):
    """Each run is killed at random moments until one gets through."""
    rng = random.Random(0)
    for number in range(20):
        path = tmp_path / str(number)
        process = in_a_process(data, path, 10_000)
        wait_for(lambda path=path: (path / "checkpoints").exists(), process)
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
        process.wait()
        straight.is_end_of(go(recipe, path), path)
