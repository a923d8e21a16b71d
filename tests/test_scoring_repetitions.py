"""Several sets of noise, and a search for a setting on noise that its score is not made of."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from running import QUICKSTART, SMALL

from genmem.cli import main
from genmem.scoring.protocol import Protocol
from genmem.scoring.search import Search, Trial
from genmem.scoring.table import Cell, Column, Row, ScoreTable
from genmem.training import session


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, made in this process."""
    folder = tmp_path_factory.mktemp("repeated")
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{folder}/bank"')
    more = (
        "--train.images=64",
        "--sampler.steps=2",
        "--evaluate.samples=64",
        "--evaluate.encoder.pixels=none",
    )
    more += ("--evaluate.copies=random-conv",)
    session.run(str(QUICKSTART), (*paths, *SMALL, *more), (), folder / "run", [])
    return folder / "run"


def evaluate(run: Path, *words: str) -> dict[str, Any]:
    """The record that `genmem evaluate` prints."""
    result = CliRunner().invoke(main, ["evaluate", str(run), "--json", *words])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refusal(run: Path, *words: str) -> str:
    result = CliRunner().invoke(main, ["evaluate", str(run), *words])
    assert result.exit_code == 2
    return " ".join(result.output.split())


def cells(record: dict[str, Any], row: str) -> dict[str, Cell]:
    return dict(ScoreTable.from_json(record["table"])[row].cells)


def test_a_repeated_score_is_the_mean_over_sets_of_noise(run: Path) -> None:
    apart = [evaluate(run, "--seed", str(seed)) for seed in (3, 5)]
    together = evaluate(run, "--seeds", "3,5")
    assert together["protocol"]["seeds"] == [3, 5]
    for row in ("samples", "samples, held-out rows", "linear decode of the rows"):
        singles = [cells(record, row)["fd/random-conv"].value for record in apart]
        cell = cells(together, row)["fd/random-conv"]
        assert cell.value == pytest.approx(fmean(singles), rel=1e-12)
        assert list(cell.values) == pytest.approx(singles, rel=1e-12) and len(set(singles)) == 2
        assert cell.sd == pytest.approx(stdev(singles), rel=1e-9)
    # What has no noise of the seed is told once, and is the same in all three.
    for row in ("Gaussian", "floor: training pictures"):
        constant = [cells(record, row)["fd/random-conv"] for record in (*apart, together)]
        assert constant[0] == constant[1] == constant[2] and constant[0].sd is None
    kept = [json.loads(file.read_text())["protocol"]["seeds"] for file in (run / "evaluations").iterdir()]
    assert sorted(kept) == [[3], [3, 5], [5]]


def test_a_search_is_scored_on_other_noise_than_what_it_chose_by(run: Path) -> None:
    found = evaluate(
        run, "--sampler.steps=1,3", "--weights", "ema,online", "--budget", "32", "--seeds", "0,1"
    )
    told = found["search"]
    assert told["samples"] == 32 and told["seed"] not in found["protocol"]["seeds"]
    trials = {trial["name"]: trial for trial in told["trials"]}
    assert len(trials) == 4
    for trial in trials.values():
        words = (*trial["overrides"], "--evaluate.samples=32", "--seed", str(told["seed"]))
        alone = evaluate(run, *words)
        assert trial["score"] == cells(alone, "samples")["fd/random-conv"].value
        assert ScoreTable.from_json(alone["table"]).protocol == trial["protocol"]
    chosen = trials[told["chosen"]]
    assert chosen["score"] == min(trial["score"] for trial in trials.values())
    assert len({trial["score"] for trial in trials.values()}) > 1
    full = evaluate(run, *chosen["overrides"], "--seeds", "0,1")
    assert full["protocol"] == found["protocol"] and full["table"] == found["table"]


def test_a_search_by_a_score_that_is_better_when_higher(run: Path) -> None:
    told = evaluate(run, "--sampler.steps=1,2", "--by", "labels", "--budget", "64")["search"]
    assert told["by"] == "labels"
    protocol = Protocol.from_json(evaluate(run)["protocol"])
    trials = tuple(Trial(name, (), protocol, score) for name, score in (("a", 0.2), ("b", 0.9), ("c", 0.9)))
    for better, name in (("higher", "b"), ("lower", "a")):
        column = Column(key="labels", title="labels", better=better)  # type: ignore[arg-type]
        assert Search(overrides=(), trials=trials, column=column).best.name == name


def test_how_labels_are_dealt_is_the_protocols(run: Path) -> None:
    uniform, balanced = (evaluate(run, f"--evaluate.labels={rule}") for rule in ("uniform", "balanced"))
    assert uniform["protocol"]["conditions"]["rule"] != balanced["protocol"]["conditions"]["rule"]


def test_bad_input_is_refused(run: Path) -> None:
    assert "'x' is no seed" in refusal(run, "--seeds", "0,x")
    assert "the same seed twice" in refusal(run, "--seeds", "1,2,1")
    assert "this key changes what is measured" in refusal(run, "--evaluate.samples=10,20")
    assert "--budget and --by are for a search" in refusal(run, "--budget", "9")
    assert "did you mean 'labels'" in refusal(run, "--sampler.steps=1,2", "--by", "lables")
    assert "no score that ranks is called so" in refusal(run, "--sampler.steps=1,2", "--by", "nearest")


def rendered(table: ScoreTable, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def test_a_cell_of_several_values() -> None:
    assert Cell.of_several([1.0, 2.0, 6.0]) == Cell(3.0, values=(1.0, 2.0, 6.0))
    assert Cell.of_several([2.0, 2.0]) == Cell(2.0)
    assert Cell.of_several([1.0, float("nan")]) == Cell(None, "the score is nan")
    column = Column(key="fd", title="FD")
    row = Row(name="samples", cells={"fd": Cell.of_several([1.0, 3.0])})
    table = ScoreTable(title="", protocol="", columns=(column,), rows=(row,), floor={"fd": 0.5})
    assert "2.000 ± 1.414 min 1.000 (4.0×)" in rendered(table, 80)
    assert [line.split("│")[2].strip() for line in rendered(table, 30).splitlines() if "│" in line] == [
        "2.000",
        "± 1.414",
        "min 1.000",
        "(4.0×)",
    ]
    assert ScoreTable.from_json(json.loads(json.dumps(table.to_json()))) == table
