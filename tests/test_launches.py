"""The rows of the fault table (docs/training.md) that need real processes, several of them.

What a process does with a signal, and how one of two hears of the other's, is in `test_recovery.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from killing import TINY
from running import QUICKSTART, ROOT, ready, small_recipe, wait_for

from genmem.training.integrity import numbered

FAULTY = ROOT / "tests" / "stress" / "faulty.py"

BAD = """
[objective.bad]
use = "misfortune"
weight = 1.0
kind = "{kind}"
mark = "{mark}"
pause = 0.1
"""
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "--", "genmem")


def command(data: Path, folder: Path, launcher: str, kind: str, images: int) -> list[str]:
    ready(small_recipe(data))
    recipe = folder / "faulty.toml"
    table = BAD.format(mark=folder / "mark", kind=kind)
    recipe.write_text(f'extends = "{QUICKSTART}"\n{table}')
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    few = ("--evaluate.samples=64", "--evaluate.encoder.random-conv=none", "--train.log_every=100000")
    long = (f"--train.images={images}", "--evaluate.every=100000", "--train.timeout=8")
    words = ("train", str(recipe), "--plugin", str(FAULTY), "--out", str(folder / "run"))
    start = TORCHRUN if launcher == "torchrun" else ("-m", "genmem")
    nproc = () if launcher == "torchrun" else ("--nproc", "2")
    return [sys.executable, *start, *words, *paths, *TINY, *few, *long, *nproc]


def start(words: list[str]) -> subprocess.Popen[str]:
    """In a session of its own: a signal to the group reaches all of it and nobody else."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, **pipes, text=True, env=environment, start_new_session=True)


def stop(words: list[str], mark: Path, send: Callable[[int, int], None], number: int) -> tuple[str, str, int]:
    """Start, send a signal when steps are taken, and wait: what was said, errors, the code."""
    mark.unlink(missing_ok=True)
    process = start(words)
    wait_for(mark.exists, process)
    send(process.pid, number)
    return *process.communicate(timeout=120), process.returncode


def stopped_at(said: str) -> int:
    """Images, as it is said at a stop."""
    (line,) = [line for line in said.splitlines() if "the same command goes on from there" in line]
    return int(line.removeprefix("stopped at ").split()[0].replace(",", ""))


def run(words: list[str]) -> tuple[str, str, int]:
    """Start and wait: what was said, errors, the code."""
    process = start(words)
    return *process.communicate(timeout=240), process.returncode


def test_under_nproc_a_death_is_named_last_and_signals_save_and_stop(data, tmp_path):
    """A rank is killed; then the launcher alone gets SIGINT; then a scheduler sends SIGTERM to every
    process, and the launcher passes it on as well. No line of the log is due: they agree without one."""
    words, path = command(data, tmp_path, "nproc", "kill", images=3840), tmp_path / "run"
    _, errors, code = run(words)
    assert code == 2 and "Terminating process" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("process 1 was ended by SIGKILL") and last.endswith("goes on from it"), errors
    before = images(path)[-1]
    assert before >= 96  # it struck after 224: no more than a save and a write are lost
    said, errors, code = stop(words, tmp_path / "mark-1", os.kill, signal.SIGINT)
    assert code == 0, errors
    assert f"going on from {before} images" in said
    first = stopped_at(said)
    assert before < first == images(path)[-1]
    said, errors, code = stop(words, tmp_path / "mark-1", os.killpg, signal.SIGTERM)
    assert code == 0, errors
    assert f"going on from {first} images" in said and first < stopped_at(said) == images(path)[-1]


def test_under_torchrun_a_death_is_named_and_a_signal_to_the_launcher_saves_and_stops(data, tmp_path):
    """torchrun's report comes last, with what the processes said; stopped by a signal it ends with 1."""
    words, path = command(data, tmp_path, "torchrun", "kill", images=640), tmp_path / "run"
    _, errors, code = run(words)
    report = errors[errors.index("genmem FAILED") :]
    assert code == 1 and "Signal 9 (SIGKILL)" in report and "rank      : 1 (local_rank: 1)" in report
    assert "process 1 is dead, or did not come" in report and "the same command goes on from it" in report
    before = images(path)[-1]
    said, errors, code = stop(words, tmp_path / "mark-1", os.kill, signal.SIGTERM)
    assert code == 1 and f"going on from {before} images" in said, errors
    stopped = stopped_at(said)
    assert before < stopped == images(path)[-1] < 640
    said, errors, code = run(words)
    assert code == 0, errors
    assert f"going on from {stopped} images" in said and images(path)[-1] == 640


def test_when_the_reader_of_the_output_has_ended_the_run_saves_and_stops(data, tmp_path):
    """As in `genmem train … | head -1`: the second line, which nobody reads, is that of the scores."""
    words = command(data, tmp_path, "nproc", "kill", images=3840)
    (tmp_path / "mark").touch()  # nobody is killed
    process = start([*words, "--evaluate.every=96"])
    process.stdout.readline()  # an empty one
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0 and "process" not in errors and "rror" not in errors, errors
    assert images(tmp_path / "run")[-1] in (128, 160)


def test_a_rank_that_hangs_is_named(data, tmp_path):
    _, errors, code = run(command(data, tmp_path, "nproc", "hang", images=384))
    assert code == 2 and "process 1 is dead, or did not come within 8 s" in errors.splitlines()[-1]
    assert images(tmp_path / "run")[-1] >= 96
    record = tmp_path / "run" / "hang"
    assert f"the last collectives of each process are in {record}" in errors.splitlines()[-1]
    last = json.loads((record / "process-0.json").read_text())["entries"][-1]
    assert last["profiling_name"].startswith("gloo:")


def images(path: Path) -> list[int]:
    return [int(found.name) for found in numbered(path / "checkpoints")]
