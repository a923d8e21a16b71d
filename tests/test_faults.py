"""The fault table of docs/training.md, row by row: what goes wrong, and what is left.

Kills of real processes at 20 random moments are slow: `pytest -m slow tests/test_faults.py`.
"""

from __future__ import annotations

import errno
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

import pytest
from killing import TINY, dying_in_write, everything, go, same_end
from running import QUICKSTART, ROOT

from genmem.data.errors import DataError
from genmem.training.integrity import Damaged, newest, numbered
from genmem.training.rollback import last_good
from genmem.training.writer import NotSaved

FAULTY = ROOT / "tests" / "stress" / "faulty.py"


@pytest.fixture(scope="module")
def recipe(data):
    """A NaN batch on the way."""
    return everything(data)


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory):
    return go(recipe, tmp_path_factory.mktemp("straight") / "run")


def saved(path: Path) -> list[Path]:
    return numbered(path / "checkpoints")


def images(path: Path) -> list[int]:
    return [int(found.name) for found in saved(path)]


def test_a_nan_batch_costs_one_step(straight):
    assert straight.finished and straight.guard.skipped == 1 and straight.guard.rollbacks == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_where_nothing_can_be_written_the_run_ends_and_the_last_good_state_stays(
    recipe, straight, tmp_path, monkeypatch, code
):
    """A full disk and a read-only folder, in the midst of the third save: the first has no optimizer."""
    model = 6  # model, optimizer, two averages, queue; state.json, complete: one file more
    path = tmp_path / "run"
    with (
        pytest.raises(NotSaved) as error,
        dying_in_write(monkeypatch, model + model + 1 + 2, OSError(code, os.strerror(code), "a/file")),
    ):
        go(recipe, path)
    said = str(error.value)
    assert os.strerror(code) in said and "a/file" in said
    assert said.endswith(f"the last good one is {path}/checkpoints/{96:012d}")
    assert images(path) == [0, 96] and not list((path / "checkpoints").glob(".*"))
    same_end(straight, go(recipe, path))


def test_a_folder_that_is_removed_is_made_again_by_the_next_save(recipe, straight, tmp_path):
    path = tmp_path / "run"

    def remove() -> None:
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        shutil.rmtree(path)

    trainer = go(recipe, path, after={5: remove})
    assert images(path)[-1] == 384 and (path / "metrics.jsonl").exists()
    same_end(straight, trainer)


def test_a_flipped_byte_is_found_and_the_checkpoint_before_is_used(recipe, straight, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(recipe, path, after={8: interrupt})
    file = saved(path)[-1] / "model" / "00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 4
    file.write_bytes(content)
    assert last_good(path / "checkpoints") == saved(path)[-2]
    shutil.rmtree(saved(path)[-1])  # as the session does: it goes on from the one before
    same_end(straight, go(recipe, path))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_older_schema_is_refused_and_left_as_it_is(recipe, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(recipe, path, after={4: interrupt})
    file = saved(path)[-1] / "state.json"
    old = json.dumps({**json.loads(file.read_text()), "version": 1})
    file.write_text(old)
    with pytest.raises(ValueError, match=r"state.json has version 1, this genmem reads \d") as error:
        go(recipe, path)
    assert not isinstance(error.value, Damaged) and "an older genmem wrote it" in str(error.value)
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


# real processes -----------------------------------------------------------------------------

SLOW = '[objective.bad]\nuse = "misfortune"\nweight = 1.0\nkind = "{kind}"\nmark = "{mark}"\nrank = {rank}\n'


def command(data: Path, folder: Path, kind: str, *more: str, rank: int = 1) -> list[str]:
    recipe = folder / "faulty.toml"
    table = SLOW.format(kind=kind, mark=folder / "mark", rank=rank)
    recipe.write_text(f'extends = "{QUICKSTART}"\n{table}')
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    few = ("--evaluate.samples=64", "--evaluate.encoder.random-conv=none", "--train.log_every=384")
    words = ("train", str(recipe), "--plugin", str(FAULTY), "--out", str(folder / "run"))
    micro = ("--train.micro_batch=16",)
    return [sys.executable, "-m", "genmem", *words, *paths, *TINY, *few, *micro, *more]


def start(words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize(
    ("kind", "rank", "message"),
    [
        ("kill", 1, "process 1 was ended by SIGKILL"),
        ("hang", 1, "process 1 is dead, or did not come within 8 s"),
    ],
)
def test_a_rank_that_dies_or_hangs_is_named_and_the_same_command_goes_on(data, tmp_path, kind, rank, message):
    words = command(data, tmp_path, kind, "--nproc", "2", "--train.timeout=8", rank=rank)
    _, errors = start(words).communicate(timeout=240)
    assert message in errors and "the same command goes on from it" in errors
    assert images(tmp_path / "run")[-1] >= 96  # it struck after 224: no more than a save and a write are lost
    if kind == "kill":
        again = start(words)
        said, errors = again.communicate(timeout=240)
        assert again.returncode == 0, errors
        assert "going on from" in said


def test_sigterm_stops_all_processes_at_once_and_saves(data, tmp_path):
    """No line of the log is due before the end, and a step takes long: they agree without one."""
    words = command(data, tmp_path, "slow", "--nproc", "2")
    process = start(words)
    wait_for(lambda: saved(tmp_path / "run"), process)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=120)
    assert "the same command goes on from there" in said, errors
    assert 0 < images(tmp_path / "run")[-1] < 384


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


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
    same_end(straight, go(recipe, path))
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
        same_end(straight, go(recipe, path))
