"""`genmem sweep` as a person meets it: interrupted, resumed, run again, printed, with a run that fails."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from genmem.sweep import running
from genmem.sweep.plan import Plan, Run
from genmem.sweep.planning import plan
from genmem.sweep.running import company_of, environment, run_missing

RECIPE = """
extends = "digits/label"
[data]
path = "{data}/digits"
[backbone]
depth = 1
width = 16
[sampler]
steps = 3
[train]
batch = 32
images = 640
log_every = 64
save_every = 64
[evaluate]
every = 320
samples = 48
[sweep]
seeds = 2
[sweep.axes]
"optimizer.lr" = [0.004, 0.001]
"sampler.steps" = [3, 2]
"""

NAMES = [f"lr={lr}/seed={seed}" for lr in ("0.004", "0.001") for seed in (0, 1)]


def words(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "genmem", "sweep", str(folder / "grid.toml"), *more]


def run(line: list[str], folder: Path) -> str:
    """What a command says; it must end well."""
    env = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines_left(folder: Path) -> list[list[str]]:
    """What `--print` prints, as words."""
    return [shlex.split(line) for line in run(words(folder, "--print"), folder).splitlines()]


@pytest.fixture(scope="module")
def swept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep that was interrupted, gone on with by a printed line, and run to its end."""
    folder = tmp_path_factory.mktemp("a sweep")
    (folder / "grid.toml").write_text(RECIPE.format(data=data))
    process = subprocess.Popen(words(folder), cwd=folder, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list(folder.glob("runs/*/*/*/checkpoints/0*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "they save first" in said
    assert not (folder / "runs" / "grid-sweep" / "sweep.json").exists()
    left = lines_left(folder)
    assert [(line[0], line[1], line[-1]) for line in left[-3:]] == [
        ("genmem", "train", f"runs/grid-sweep/{name}") for name in NAMES[1:]
    ]
    assert "going on from" in run([sys.executable, "-m", *left[0]], folder)
    assert [line[1] for line in lines_left(folder)] == ["evaluate", "train", "train", "train"]
    run(words(folder, "--jobs", "2"), folder)
    return folder


def test_what_was_interrupted_is_gone_on_with_and_every_run_is_there(swept: Path) -> None:
    out = swept / "runs" / "grid-sweep"
    record = json.loads((out / "sweep.json").read_text())
    assert [(row["name"], row["setting"]) for row in record["rows"]] == [
        (name, setting) for name in ("lr=0.004", "lr=0.001") for setting in ("steps=3", "steps=2")
    ]
    digests = [row["protocol"] for row in record["rows"]]
    assert digests[0] == digests[2] != digests[1] == digests[3]
    assert not record["missing"] and record["score"] == "fd/pixels"
    for name in NAMES:
        scores = json.loads((out / name / "scores.json").read_text())
        scored = json.loads((out / name / "evaluations" / "steps=2.json").read_text())
        assert scores["images"] == scored["images"] == 640
        assert (scores["protocol"]["steps"], scored["protocol"]["steps"]) == (3, 2)
        assert not (out / name / "evaluations" / "steps=3.json").exists()  # training ended with it
    values = [json.loads((out / name / "scores.json").read_text()) for name in NAMES[:2]]
    finals = [fd_of(value) for value in values]
    assert record["rows"][0]["scores"]["fd/pixels"]["values"] == finals and finals[0] != finals[1]
    assert [len(curve) for curve in record["trainings"]["lr=0.004"]["curves"]] == [2, 2]
    assert record["trainings"]["lr=0.004"]["jobs"] == [1, 2]  # the first was alone, until its line ran
    assert "| lr=0.001 | steps=2 | 2 |" in (out / "sweep.md").read_text()


def fd_of(record: dict) -> float:
    (row,) = [row for row in record["table"]["rows"] if row["name"] == "samples"]
    return row["cells"]["fd/pixels"]["value"]


def test_the_same_command_again_runs_nothing_and_prints_nothing_to_run(swept: Path) -> None:
    files = [*swept.glob("runs/*/*/*/*.*"), *swept.glob("runs/*/*/*/evaluations/*")]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert len(before) > 20
    again = run(words(swept), swept)
    assert "done" not in again and "steps=2" in again
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert lines_left(swept) == []


# the runner itself, on commands that take no time ----------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Plan:
    return plan("digits/label", ("--optimizer.lr=0.1,0.2,0.3",), out=tmp_path / "out")


def test_a_run_that_fails_is_told_with_its_last_lines_and_the_others_go_on(
    three: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(run: Run, plugins: tuple[Path, ...]) -> list[list[str]]:
        """Two steps, one after the other; the first run has a file that is not there."""
        if run.name == "lr=0.1":
            return [["json.tool", "nowhere.json"]]
        steps = [["json.tool", "--help"], ["calendar", "2000"]]
        log = run.folder / "sweep.log"
        return steps[log.read_text().count("$ ") :] if log.exists() else steps

    monkeypatch.setattr(running, "next_words", fake)
    said = io.StringIO()
    failed = run_missing(three, 2, Console(file=said, width=200))
    assert [run.name for run in failed] == ["lr=0.1"]
    assert "lr=0.1/seed=0: failed with exit code 2" in said.getvalue()
    assert "nowhere.json" in said.getvalue() and "lr=0.3/seed=0: done" in said.getvalue()
    for run in three.runs()[1:]:
        log = (run.folder / "sweep.log").read_text()
        assert log.index("usage:") < log.index("$ calendar 2000") < log.index("December")


def test_a_command_that_ends_well_and_leaves_nothing_is_not_run_for_ever(
    three: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "next_words", lambda run, plugins: [["json.tool", "--help"]])
    assert len(run_missing(three, 3, Console(file=io.StringIO()))) == 3


SLEEPER = """
import sys, time
from pathlib import Path
try:
    (Path(sys.argv[2]) / "ready").touch()
    time.sleep(60)
except KeyboardInterrupt:
    print("saved")
"""


class Impatient(io.StringIO):
    """Whoever reads that the runs are being stopped asks again, as `timeout` does."""

    def write(self, text: str) -> int:
        if "stopping" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def test_an_interrupt_reaches_every_run_once(three: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    module = three.out.parent / "sleeper.py"
    module.write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    monkeypatch.setattr(running, "next_words", lambda run, plugins: [["sleeper", "train", str(run.folder)]])
    asked = []

    def pause(seconds: float) -> None:
        if not asked and len(list(three.out.glob("*/*/ready"))) == 2:
            asked.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)

    monkeypatch.setattr(running, "pause", pause)
    with pytest.raises(KeyboardInterrupt):
        run_missing(three, 2, Console(file=Impatient()))
    first, second, third = three.runs()
    for run in (first, second):
        assert (run.folder / "sweep.log").read_text().endswith(f"{run.folder}\nsaved\n")
        assert company_of(run) == 2
    assert not third.folder.exists() and company_of(third) is None


def test_cores_are_dealt_out_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert environment(3, {"A": "b"}) == {"A": "b", "OMP_NUM_THREADS": "2"}
    assert environment(9, {})["OMP_NUM_THREADS"] == "1"
    assert environment(2, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
