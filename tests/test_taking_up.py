"""A finished run taken up again: a checkpoint is damaged, its data were moved, are gone, or are others."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner, Result
from running import QUICKSTART, SMALL

from genmem.cli import main
from genmem.recipe import loads
from genmem.scoring import report
from genmem.training import session
from genmem.training.folder import RunFolder

WORDS = (*SMALL, "--train.save_every=32", "--sampler.steps=1", "--evaluate.samples=65", "--evaluate.batch=65")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set in it, and a run on it that has two checkpoints."""
    folder = tmp_path_factory.mktemp("taken")
    train(folder, folder / "data", 64)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """The same, to do harm to."""
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    recipe = home / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(trained), str(home)))
    return home


def train(home: Path, data: Path, images: int, *more: str, minutes: float | None = None) -> None:
    paths = (f'--data.path="{data}"', f'--memory.bank.path="{data}/bank"')
    words = (*paths, *WORDS, f"--train.images={images}", *more)
    session.run(str(QUICKSTART), words, (), home / "run", [], minutes)


def call(*words: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def evaluate(home: Path, *words: str) -> dict[str, Any]:
    result = call("evaluate", home / "run", "--out", home / "record.json", *words)
    assert result.exit_code == 0, result.output
    return json.loads((home / "record.json").read_text())


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def checkpoint(home: Path, images: int) -> Path:
    return home / "run" / "checkpoints" / f"{images:012d}"


def moved_words(place: Path) -> tuple[str, str]:
    return f"--data.path={place}", f"--memory.bank.path={place / 'bank'}"


COMMANDS = {
    "evaluate": ("evaluate", "{run}"),
    "evaluate a set": ("evaluate", "{run}", "--reference", "{home}/data/test", "--encoder", "pixels"),
    "sample": ("sample", "{run}", "--num", "1"),
    "sample rows": ("sample", "{run}", "--rows", "3"),
    "export": ("checkpoint", "export", "{run}", "{home}/out.safetensors"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_checkpoint_is_named_with_the_one_that_is_whole(home: Path, name: str) -> None:
    file = checkpoint(home, 64) / "ema.ema" / "00000.safetensors"
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    flip(file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    words = [word.format(run=home / "run", home=home) for word in COMMANDS[name]]
    before = sorted(home.rglob("*"))
    result = call(*words)
    assert result.exit_code == 2
    told = f"{file} cannot be read: its sha256 is {found[:16]}…, expected {expected[:16]}…; "
    assert f"{told}{checkpoint(home, 32)} is whole: --checkpoint 32 takes that one" in result.output
    assert sorted(home.rglob("*")) == before
    assert call(*words, "--checkpoint", "32").exit_code == 0


def test_an_older_checkpoint_is_what_is_scored(home: Path) -> None:
    newest, older = evaluate(home), evaluate(home, "--checkpoint", "32")
    assert (newest["images"], older["images"]) == (64, 32)
    assert newest["protocol"] == older["protocol"] and newest["table"] != older["table"]
    shutil.rmtree(checkpoint(home, 64))
    assert evaluate(home)["table"] == older["table"]
    result = call("evaluate", home / "run", "--checkpoint", "48")
    assert result.exit_code == 2 and "has no checkpoint of 48 images; there are: 32" in result.output


def test_a_torn_checkpoint_is_not_passed_over_either(home: Path) -> None:
    (checkpoint(home, 64) / "complete").unlink()
    result = call("evaluate", home / "run")
    assert result.exit_code == 2
    assert "is not whole: complete does not fit state.json; " in result.output
    assert "--checkpoint 32 takes that one" in result.output
    flip(checkpoint(home, 32) / "model" / "00000.safetensors")
    assert "no other checkpoint in" in call("evaluate", home / "run").output


def test_training_says_where_it_puts_a_damaged_checkpoint(home: Path, capsys) -> None:
    flip(checkpoint(home, 64) / "model" / "00000.safetensors")
    train(home, home / "data", 96)
    said, aside = " ".join(capsys.readouterr().out.split()), checkpoint(home, 64).with_suffix(".damaged")
    assert f"{aside}: the damaged checkpoint is kept under this name" in said and aside.is_dir()
    assert call("evaluate", home / "run", "--checkpoint", "64", "--out", home / "r.json").exit_code == 0


def other_index(place: Path) -> None:
    """One label of the training split is another."""
    split = place / "train"
    with np.load(split / "index.npz") as file:
        arrays = dict(file)
    arrays["label"][7] = (arrays["label"][7] + 1) % 10
    np.savez(split / "index.npz", **arrays)
    digest = hashlib.sha256((split / "index.npz").read_bytes()).hexdigest()
    rewrite(split / "manifest.json", index=digest)


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_set_that_was_moved_is_scored_as_before_and_another_is_refused(home: Path) -> None:
    before, place = evaluate(home), home / "elsewhere"
    (home / "data").rename(place)
    after = evaluate(home, *moved_words(place))
    assert after["table"] == before["table"] and after["protocol"] == before["protocol"]
    result = call("evaluate", home / "run", moved_words(place)[0])
    assert result.exit_code == 2 and "--memory.bank.path=… names the place where it lies" in result.output
    assert not (home / "data").exists()
    other_index(place)
    result = call("evaluate", home / "run", *moved_words(place))
    assert result.exit_code == 2 and "other train/label); bring that one back" in result.output
    assert f"{place}: another set than the one the run was trained on" in result.output
    result = call("evaluate", home / "run", "--data.path=/nowhere/at/all", moved_words(place)[1])
    assert result.exit_code == 2 and "/nowhere/at/all: no prepared set" in result.output


def test_a_set_of_the_same_content_is_the_same_whatever_made_it(home: Path) -> None:
    for split in ("train", "test"):
        file = home / "data" / split / "manifest.json"
        provenance = json.loads(file.read_text())["provenance"]
        rewrite(file, provenance={**provenance, "genmem": "99.0"})
    assert evaluate(home)["images"] == 64


def test_a_set_that_is_gone_is_made_again_in_so_many_words(home: Path) -> None:
    before = evaluate(home)
    (home / "data" / "bank").rename(home / "bank")
    bank = f"--memory.bank.path={home / 'bank'}"
    shutil.rmtree(home / "data")
    result = call("evaluate", home / "run", bank, "--out", home / "again.json")
    assert result.exit_code == 0, result.output
    assert f"{home / 'data'} is not there: it is made again from its source (digits)" in result.output
    assert json.loads((home / "again.json").read_text())["table"] == before["table"]
    assert "made again" not in call("evaluate", home / "run", bank).output


def test_a_set_that_was_made_again_as_another_is_refused(home: Path) -> None:
    """As of a source that has changed since: the checkpoint remembers another set."""
    place = checkpoint(home, 64)
    state = json.loads((place / "state.json").read_text())
    state["fingerprints"]["data"] = state["contents"]["test/x.npy"] = "f00d" * 16
    (place / "state.json").write_text(json.dumps(state))
    (place / "complete").write_text(hashlib.sha256((place / "state.json").read_bytes()).hexdigest())
    for split in ("train", "test"):
        shutil.rmtree(home / "data" / split)
    result = call("evaluate", home / "run")
    assert result.exit_code == 2 and "is not there: it is made again" in result.output
    assert "f00df00df00df00d… in" in result.output and "other test/x.npy" in result.output


def test_training_goes_on_where_the_data_were_moved_to(home: Path) -> None:
    place = home / "elsewhere"
    (home / "data").rename(place)
    train(home, place, 96)
    assert checkpoint(home, 96).is_dir() and str(place) in (home / "run" / "recipe.toml").read_text()
    other_index(place)
    text = (home / "run" / "recipe.toml").read_text()
    place = place.rename(home / "third")
    shutil.rmtree(place / "bank")
    with pytest.raises(ValueError, match="the checkpoint was made with another data"):
        train(home, place, 128)
    assert (home / "run" / "recipe.toml").read_text() == text


def test_a_longer_run_killed_in_its_last_scoring_is_scored_when_it_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(report, "full_report", Mock(side_effect=KeyboardInterrupt))
        train(home, home / "data", 96)
    scores = home / "run" / "scores.json"
    assert json.loads(scores.read_text())["images"] == 64 and checkpoint(home, 96).is_dir()
    train(home, home / "data", 96)
    assert json.loads(scores.read_text())["images"] == 96
    assert "is complete" not in capsys.readouterr().out
    train(home, home / "data", 96)
    assert "is complete" in capsys.readouterr().out


def test_a_run_goes_on_with_other_micro_batches_and_another_compiler_but_no_other_seed(home: Path) -> None:
    folder = RunFolder(home / "run")
    text = folder.recipe.read_text()
    ours = ("--train.micro_batch=16", "--train.compile=true")
    folder.check(loads(text, "now", ours))
    with pytest.raises(ValueError, match=r"another recipe \(train.seed: 0 there, 1 here\)"):
        folder.check(loads(text, "now", (*ours, "--train.seed=1")))


def test_the_time_limit_counts_from_the_start_of_the_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data are made ready for an hour, by this clock."""
    monkeypatch.setenv("COLUMNS", "500")
    clock, ready = time.monotonic, session._ready_data

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600)
        return ready(*arguments)

    monkeypatch.setattr(session, "_ready_data", slow)
    train(home, home / "data", 128, minutes=59)
    assert "stopped by --minutes at 64 images and saved" in capsys.readouterr().out
    assert not checkpoint(home, 96).is_dir()


def test_without_git_the_commit_is_not_known(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = home / "run" / "environment.json"
    assert "git" in json.loads(file.read_text())
    monkeypatch.setenv("PATH", str(tmp_path))
    train(home, home / "data", 64)
    assert json.loads(file.read_text())["git"] is None
