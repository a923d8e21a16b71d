"""`genmem train` as a person meets it: to the end, killed, interrupted, twice, on another recipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import QUICKSTART, SMALL, assert_equal

import genmem
from genmem.training import checkpoints, integrity

LENGTH = ("--train.images=1280", "--evaluate.every=640", "--train.save_every=128", "--train.keep=50")


def command(data: Path, out: Path, *more: str) -> list[str]:
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    words = ("train", str(QUICKSTART), "--out", str(out), *paths, *SMALL, *LENGTH, *more)
    return [sys.executable, "-m", "genmem", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def run(words: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=300, **options)


def train(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run(command(data, out, *more))


def final_state(out: Path):
    found = checkpoints.load(integrity.numbered(out / "checkpoints")[-1])
    assert found.state["images"] == 1280
    return {f"{group}/{key}": value for group, part in found.tensors.items() for key, value in part.items()}


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("straight") / "run"
    done = train(data, out)
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_folder_holds_what_the_docs_promise(straight):
    names = {path.name for path in straight.iterdir()}
    assert {
        "recipe.toml",
        "environment.json",
        "metrics.jsonl",
        "samples",
        "checkpoints",
        "scores.json",
    } <= names
    records = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    images = [record["images"] for record in records]
    assert images == sorted(images) and images[-1] == 1280
    keys = {key for record in records for key in record}
    assert {"loss/denoise", "loss/held_out", "objective/spread", "fd/pixels", "images_per_s"} <= keys
    for picture in ("final-ema.png", "neighbours-ema.png", f"{640:012d}-ema.png"):
        assert Image.open(straight / "samples" / picture).size[0] > 100
    environment = json.loads((straight / "environment.json").read_text())
    assert {plugin["distribution"] for plugin in environment["plugins"]} == {"genmem"}
    scores = json.loads((straight / "scores.json").read_text())
    rows = {row["name"] for row in scores["table"]["rows"]}
    assert {"noise", "Gaussian", "samples", "linear decode of the rows", "samples, held-out rows"} <= rows


def test_the_same_command_says_that_the_run_is_complete(data, straight):
    again = train(data, straight)
    assert again.returncode == 0 and "is complete" in again.stdout and "Gaussian" in again.stdout


def test_killed_anywhere_it_ends_with_the_same_weights_bit_for_bit(data, straight, tmp_path):
    out = tmp_path / "run"
    for images in (256, 768):
        process = subprocess.Popen(command(data, out), env=environment(), stdout=subprocess.DEVNULL)
        wait_for(lambda images=images: seen(out) >= images, process)
        process.kill()
        process.wait()
    done = train(data, out, "--train.shard=true")
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stdout
    assert "train.shard = true in one process: nothing is split" in done.stdout
    assert_equal(final_state(straight), final_state(out))
    images = [json.loads(line)["images"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line)["images"] for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert images == expected


def test_an_interrupt_saves_and_the_same_command_goes_on(data, straight, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(command(data, out), env=environment(), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: seen(out) >= 256, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "the same command goes on from there" in output
    assert train(data, out).returncode == 0
    assert_equal(final_state(straight), final_state(out))


def test_a_time_limit_saves_and_the_same_command_goes_on(data, straight, tmp_path):
    out = tmp_path / "run"
    first = train(data, out, "--minutes", "0.0001")
    assert first.returncode == 0 and "stopped by --minutes at 0 images and saved" in first.stdout
    assert [path.name for path in integrity.numbered(out / "checkpoints")] == [f"{0:012d}"]
    assert train(data, out).returncode == 0
    assert_equal(final_state(straight), final_state(out))


def test_a_second_process_on_the_folder_is_refused(data, tmp_path):
    out = tmp_path / "run"
    first = subprocess.Popen(command(data, out), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: (out / "recipe.toml").exists(), first)
    first.send_signal(signal.SIGSTOP)  # as long as the second takes to come
    second = train(data, out)
    first.kill()
    first.wait()
    assert second.returncode == 2 and "another process is training in" in second.stderr
    assert "Traceback" not in second.stderr


def test_another_recipe_on_the_folder_is_refused_with_what_differs(data, straight):
    other = train(data, straight, "--optimizer.lr=0.1")
    assert other.returncode == 2 and "optimizer.lr: 0.004 there, 0.1 here" in other.stderr


def test_sampling_scoring_profiling_and_python_use_the_run(straight, tmp_path):
    pictures = tmp_path / "pictures"
    done = run(
        [sys.executable, "-m", "genmem", "sample", str(straight), "--num", "5", "--out", str(pictures)]
    )
    assert done.returncode == 0, done.stderr
    assert len(list(pictures.glob("0*.png"))) == 5 and (pictures / "grid.png").exists()
    from_python = genmem.load(straight, device="cpu").sample(5, seed=0)
    first = np.array(Image.open(pictures / "000003.png"))
    assert np.array_equal(from_python.array[3, :, :, 0], first)
    assert from_python._repr_png_().startswith(b"\x89PNG")
    scored = run([sys.executable, "-m", "genmem", "evaluate", str(straight), "--json"])
    assert scored.returncode == 0, scored.stderr
    table = json.loads(scored.stdout)["table"]
    assert table == json.loads((straight / "scores.json").read_text())["table"]
    costs = run([sys.executable, "-m", "genmem", "profile", str(straight / "recipe.toml"), "--json"])
    assert costs.returncode == 0, costs.stderr
    report = json.loads(costs.stdout)
    assert report["memory_bytes"]["training"]["memory.negatives"] == (96 + 1) * (32 * 2 + 8 + 4 + 4)
    assert report["forward_macs"]["total"] == report["worked_out"]["macs"] > 0


def test_weights_that_are_not_there_are_told_with_those_that_are(straight):
    done = run([sys.executable, "-m", "genmem", "sample", str(straight), "--weights", "slow"])
    assert done.returncode == 2 and "no weights 'slow'; there are: ema, online" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "nowhere"], "nowhere is no run folder"),
        (["evaluate", "nowhere"], "nowhere is no run folder"),
        (["train", "quickstrat"], "quickstart"),
        (["train", "quickstart", "--nproc", "0"], "--nproc must be 1 or more"),
        (["train", "quickstart", '--train.device="abacus"'], "abacus"),
    ],
)
def test_what_is_the_users_to_mend_is_said_in_plain_lines(words, message, tmp_path):
    done = run([sys.executable, "-m", "genmem", *words], cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr and "Traceback" not in done.stderr


def seen(out: Path) -> int:
    """Images in the last whole line of the log."""
    try:
        return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["images"]
    except (OSError, IndexError, ValueError):
        return 0


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    """Until the condition holds; the process must still run."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
