"""What a run tells: to metrics.jsonl always, to notifiers as long as they bear it."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tomli
from rich.console import Console
from running import small_recipe

from genmem.contracts import Notifier
from genmem.recipe import RecipeError
from genmem.training import session
from genmem.training.folder import RunFolder
from genmem.training.journal import Journal
from genmem.training.trainer import Trainer

PLUGIN = """
import json
from pathlib import Path

import attrs

from genmem import hookimpl
from genmem.contracts import Notifier, NotifierConfig


class Told(Notifier):
    def __init__(self, config):
        self.config = config

    def _note(self, event, *facts):
        if event == self.config.fails_at:
            raise OSError("the line is dead")
        with Path(self.config.file).open("a") as file:
            file.write(json.dumps([event, *facts]) + "\\n")

    def start(self, run):
        self._note("start", run.images_seen, run.images, run.name, str(run.folder), run.recipe)

    def line(self, images_seen, values):
        self._note("line", images_seen, dict(values))

    def scores(self, images_seen, values, pictures):
        self._note("scores", images_seen, dict(values), {name: str(file) for name, file in pictures.items()})

    def checkpoint(self, images_seen, folder):
        self._note("checkpoint", images_seen, str(folder), (folder / "state.json").exists())

    def warning(self, images_seen, message):
        self._note("warning", images_seen, message)

    def went_back(self, images_seen, to):
        self._note("went_back", images_seen, to)

    def end(self, images_seen, ending, message):
        self._note("end", images_seen, ending, message)


@attrs.frozen(kw_only=True)
class ToldConfig(NotifierConfig):
    "Writes down what it is told."

    file: str
    fails_at: str = ""

    def build(self):
        if self.fails_at == "build":
            raise ValueError("no such account")
        return Told(self)


@hookimpl
def genmem_notifiers():
    return {"told": ToldConfig}
"""

LENGTH = ("--train.images=128", "--evaluate.every=64", "--evaluate.samples=64")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    return file


def recipe_file(data: Path, folder: Path, mine: Path, notify: str, *more: str) -> Path:
    from genmem.recipe import dump

    recipe = small_recipe(data, *LENGTH, *more, tables=notify, plugins=[mine])
    file = folder / "small.toml"
    file.write_text(dump(recipe))
    return file


def told(file: Path) -> list[list[Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def besides_checkpoints(events: list[list[Any]]) -> list[str]:
    return [event[0] for event in events if event[0] != "checkpoint"]


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_notifier_is_told_what_metrics_jsonl_says(data, tmp_path, mine):
    events = tmp_path / "events.jsonl"
    recipe = recipe_file(data, tmp_path, mine, f'[notify.me]\nuse = "told"\nfile = "{events}"\n')
    out = tmp_path / "run"
    session.run(str(recipe), (), (mine,), out, [])
    found = told(events)
    assert besides_checkpoints(found) == ["start", *["line", "scores"] * 2, "end"]
    start = found[0]
    assert start[1:5] == [0, 128, "small", str(out)]
    assert start[5] == tomli.loads((out / "recipe.toml").read_text())
    lines = [record for record in metrics(out) if "loss/denoise" in record]
    assert [event[1:] for event in found if event[0] == "line"] == [
        [line.pop("images"), {key: value for key, value in line.items() if key != "time"}] for line in lines
    ]
    scores = [event for event in found if event[0] == "scores"]
    assert scores[1][2]["loss/held_out"] > 0
    assert scores[1][3] == {"samples": str(out / "samples" / f"{128:012d}-ema.png")}
    # Written while training goes on, so told whenever they are complete.
    assert [event[1:] for event in found if event[0] == "checkpoint" and event[1]] == [
        [images, str(out / "checkpoints" / f"{images:012d}"), True] for images in (64, 128)
    ]
    assert found[-1] == ["end", 128, "finished", ""]


def test_a_roll_back_is_told_and_what_counts_then_is_what_metrics_jsonl_has(
    data, tmp_path, mine, monkeypatch
):
    backward = Trainer._backward

    def poison(self, batch, *, last):
        if self.steps == 2 and self.guard.rollbacks == 0:
            batch.x[:] = float("nan")
        return backward(self, batch, last=last)

    monkeypatch.setattr(Trainer, "_backward", poison)
    more = ("--train.log_every=32", "--guard.skips=1", "--train.images=160")
    events = tmp_path / "events.jsonl"
    recipe = recipe_file(data, tmp_path, mine, f'[notify.me]\nuse = "told"\nfile = "{events}"\n', *more)
    session.run(str(recipe), (), (mine,), tmp_path / "run", [])
    found = [event for event in told(events) if event[0] in ("line", "went_back")]
    (back,) = [number for number, event in enumerate(found) if event[0] == "went_back"]
    assert found[back][1:] == [128, 64] and [event[1] for event in found[:back]] == [32, 64, 96]
    counting = [event for event in found[:back] if event[1] <= 64] + found[back + 1 :]
    lines = [record for record in metrics(tmp_path / "run") if "images_per_s" in record]
    assert [event[1] for event in counting] == [32, 64, 96, 128, 160]
    assert [(event[1], event[2]["loss/denoise"]) for event in counting] == [
        (record["images"], record["loss/denoise"]) for record in lines
    ]


def test_numbers_that_are_not_finite_are_left_out_for_everybody(tmp_path):
    heard: list[Any] = []

    class Hears(Notifier):
        def line(self, images_seen, values):
            heard.append(values)

        def scores(self, images_seen, values, pictures):
            heard.append(values)

    said = io.StringIO()
    journal = Journal(RunFolder(tmp_path), Console(file=said), {"me": Hears()})
    journal.line(64, {"loss/denoise": math.nan, "gradient_norm": 1.0})
    journal.scores(64, {"loss/held_out": math.inf, "fd/pixels": 2.0}, {})
    assert heard == [{"gradient_norm": 1.0}, {"fd/pixels": 2.0}]
    assert [record.keys() for record in metrics(tmp_path)] == [
        {"images", "gradient_norm", "time"},
        {"images", "fd/pixels", "time"},
    ]
    assert "loss/held_out inf" in said.getvalue()


@pytest.mark.parametrize("moment", ["start", "line", "scores", "checkpoint", "end"])
def test_one_that_fails_is_said_once_and_switched_off(data, tmp_path, mine, moment, capsys):
    dead, live = tmp_path / "dead.jsonl", tmp_path / "live.jsonl"
    tables = f'[notify.dead]\nuse = "told"\nfile = "{dead}"\nfails_at = "{moment}"\n'
    tables += f'[notify.live]\nuse = "told"\nfile = "{live}"\n'
    out = tmp_path / "run"
    session.run(str(recipe_file(data, tmp_path, mine, tables)), (), (mine,), out, [])
    said = "notify.dead failed and is switched off (OSError: the line is dead); the run goes on"
    assert [record["warning"] for record in metrics(out) if "warning" in record] == [said]
    assert [event[2] for event in told(live) if event[0] == "warning"] == [said]
    assert told(live)[-1][0] == "end"
    assert " ".join(capsys.readouterr().out.split()).count(said) == 1
    order = ["start", "line", "scores", "line", "scores", "end"]
    heard = besides_checkpoints(told(dead)) if dead.exists() else []
    assert heard == order[: len(heard)] and moment not in heard
    assert (out / "scores.json").exists()


def test_one_that_cannot_be_built_is_refused_before_the_run(data, tmp_path, mine):
    tables = '[notify.dead]\nuse = "told"\nfile = "x"\nfails_at = "build"\n'
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"^notify.dead \(told\): no such account$"):
        session.run(str(recipe_file(data, tmp_path, mine, tables)), (), (mine,), out, [])
    assert not out.exists()


def test_an_error_of_the_run_is_told_and_not_swallowed(data, tmp_path, mine, monkeypatch):
    events = tmp_path / "events.jsonl"
    recipe = recipe_file(data, tmp_path, mine, f'[notify.me]\nuse = "told"\nfile = "{events}"\n')

    def fail(*parts):
        raise ArithmeticError("the loss is gone")

    monkeypatch.setattr(session, "train", fail)
    with pytest.raises(ArithmeticError):
        session.run(str(recipe), (), (mine,), tmp_path / "run", [])
    assert told(events)[-1] == ["end", 0, "failed", "ArithmeticError: the loss is gone"]


def test_two_that_fail_at_each_others_warning_are_both_said_once(tmp_path):
    class Sick(Notifier):
        def line(self, images_seen, values):
            raise OSError("first")

        def warning(self, images_seen, message):
            raise OSError("second")

    folder = RunFolder(tmp_path)
    journal = Journal(folder, Console(quiet=True), {"a": Sick(), "b": Sick()})
    journal.line(64, {"loss/denoise": 1.0})
    journal.line(128, {"loss/denoise": 1.0})
    warnings = [record["warning"] for record in metrics(tmp_path) if "warning" in record]
    assert [line.split()[0] for line in warnings] == ["notify.a", "notify.b"]


def test_a_misspelt_key_is_refused(data, tmp_path, mine):
    with pytest.raises(RecipeError, match="unknown key 'fil', did you mean 'file'"):
        small_recipe(data, tables='[notify.me]\nuse = "told"\nfil = "x"\n', plugins=[mine])
