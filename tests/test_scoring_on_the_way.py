"""Scores between steps: what was due to be saved is safe before, and a resumed run tells the same."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from running import QUICKSTART, SMALL
from safetensors.torch import load_file

from genmem.scoring.report import Reporter
from genmem.training import checkpoints, session
from genmem.training.integrity import numbered
from genmem.training.trainer import Trainer

WORDS = (
    *SMALL,
    "--train.images=128",
    "--evaluate.every=64",
    "--evaluate.samples=64",
    "--sampler.steps=2",
)


def train(data: Path, out: Path) -> None:
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    session.run(str(QUICKSTART), (*paths, *WORDS), (), out, [])


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    train(data, out)
    return out


def records(out: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says, without what is measured by the clock."""
    measured = {"time", "images_per_s", "seconds_left", "mfu"}
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key not in measured} for one in found]


def same_end(first: Path, second: Path) -> None:
    assert records(first) == records(second)
    for file in (path.relative_to(first) for path in first.rglob("*.png")):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    one, other = (json.loads((out / "scores.json").read_text()) for out in (first, second))
    assert one["table"] == other["table"] and one["images"] == other["images"]
    for file in (first / "checkpoints").rglob("*.safetensors"):
        tensors, others = load_file(file), load_file(second / file.relative_to(first))
        assert all(value.equal(others[name]) for name, value in tensors.items()), file


@pytest.mark.parametrize("moment", [64, 128])
def test_a_scoring_that_fails_has_lost_nothing_and_comes_first_when_the_run_goes_on(
    data, unbroken, tmp_path, monkeypatch, moment, capsys
):
    during, out = Reporter.during, tmp_path / "run"

    def fail(self, images_seen):
        if images_seen == moment:
            raise RuntimeError("out of memory")
        return during(self, images_seen)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr(Reporter, "during", fail)
        train(data, out)
    assert "this scoring failed. The same command goes on" in " ".join(capsys.readouterr().out.split())
    assert int(numbered(out / "checkpoints")[-1].name) == moment
    train(data, out)
    same_end(unbroken, out)


def test_a_stop_where_a_save_and_a_scoring_are_due_saves_once_and_scores_later(
    data, unbroken, tmp_path, monkeypatch
):
    step, write, written = Trainer.step, checkpoints.write, list[int]()

    def terminate(self):
        if self.steps == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    def note(folder, images_seen, *more):
        written.append(images_seen)
        return write(folder, images_seen, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", terminate)
        patch.setattr(checkpoints, "write", note)
        train(data, tmp_path / "run")
    assert written == [0, 64] and not list((tmp_path / "run" / "samples").iterdir())
    train(data, tmp_path / "run")
    same_end(unbroken, tmp_path / "run")
