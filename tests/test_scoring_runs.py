"""A run scored by several processes, on its own held-out split and against a reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from running import QUICKSTART, SMALL

from genmem.cli import main
from genmem.scoring.table import ScoreTable
from genmem.training import session


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    words = (f'--data.path="{data}/digits"', f'--memory.bank.path="{folder}/bank"', *SMALL)
    more = ("--train.images=64", "--sampler.steps=1", "--evaluate.samples=65", "--evaluate.batch=16")
    session.run(str(QUICKSTART), (*words, *more), (), folder / "run", [])
    return folder / "run"


def evaluate(run: Path, *words: str) -> dict[str, Any]:
    """The record the command writes; output of spawned processes is not the runner's."""
    out = run.parent / "record.json"
    out.unlink(missing_ok=True)
    result = CliRunner().invoke(main, ["evaluate", str(run), "--out", str(out), *words])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_processes_agree_on_a_run_and_on_what_a_search_chooses(run: Path) -> None:
    words = ("--seeds", "3,5", "--sampler.steps=1,2", "--budget", "20")
    one, two = (evaluate(run, *words, *more) for more in ((), ("--nproc", "2")))
    assert one["protocol"] == two["protocol"]
    energies = [found["memory"].pop("pixel_energy") for found in (one, two)]
    assert one["memory"] == two["memory"] and energies[1] == pytest.approx(energies[0], rel=1e-9)
    assert one["search"]["chosen"] == two["search"]["chosen"]
    scores = [[trial["score"] for trial in found["search"]["trials"]] for found in (one, two)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-6) and 0.0 not in scores[1]
    tables = [ScoreTable.from_json(found["table"]) for found in (one, two)]
    assert [row.name for row in tables[0].rows] == [row.name for row in tables[1].rows]
    for row, other in zip(tables[0].rows, tables[1].rows, strict=True):
        for key, cell in row.cells.items():
            wanted = None if cell.value is None else pytest.approx(cell.value, rel=1e-5, abs=1e-7)
            assert other.cells[key].value == wanted, (row.name, key)


def test_a_run_against_a_reference_is_kept_and_the_same_on_two_processes(run: Path, data: Path) -> None:
    words = ("--reference", f"{data}/digits/test", "--encoder", "random-conv", "--seed", "3")
    more = ("--metrics", "fd,kid", "--kid-subset", "20", "--samples", "41", "--sampler.steps=2")
    one, two = (evaluate(run, *words, *more, *nproc) for nproc in ((), ("--nproc", "2")))
    assert one["pictures"]["count"] == 41 and one["images"] == 64
    assert one["pictures"] == two["pictures"] and one["protocols"] == two["protocols"]
    for name in ("fd", "kid"):
        assert two["scores"][name]["value"] == pytest.approx(one["scores"][name]["value"], rel=1e-6)
    kept = list((run / "evaluations" / "sets").glob("*.json"))
    assert [json.loads(path.read_text()) for path in kept] == [two]
    other = evaluate(run, *words, *more, "--weights", "online")
    assert not {*other["protocols"]} & {*one["protocols"]}
    assert len(list((run / "evaluations" / "sets").glob("*.json"))) == 2
