"""The arithmetic of a sweep's table against figures worked out by hand, and what it says in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from genmem.comparing.protocols import comparable, name_memory
from genmem.comparing.statistics import (
    Spread,
    differs,
    images_to,
    late_share,
    mean_curve,
    score_at,
    standard_error,
)
from genmem.recipe import dump, loads
from genmem.scoring.protocol import Protocol
from genmem.scoring.table import Cell, Column, Row, ScoreTable
from genmem.sweep.commands import evaluate_words, next_words, train_words
from genmem.sweep.folders import Trained, asked_of
from genmem.sweep.notes import level_text, notes
from genmem.sweep.outcome import Outcome, outcome_of
from genmem.sweep.plan import Plan, Run
from genmem.sweep.planning import plan
from genmem.sweep.plot import INSTALL, plot
from genmem.sweep.record import to_json
from genmem.sweep.session import refuse_strangers, tables
from genmem.sweep.text import header, lines, markdown

CURVE = [(100, 8.0), (200, 4.0), (400, 1.0), (800, 0.5)]


def test_spread_has_n_minus_one_below() -> None:
    spread = Spread((1.0, 2.0, 6.0))
    assert spread.mean == 3.0
    assert spread.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2), abs=1e-15)
    assert Spread((1.0,)).sd is None


def test_a_difference_counts_from_twice_its_standard_error() -> None:
    a, b = Spread((1.0, 3.0)), Spread((4.0, 4.0, 7.0))
    # sd_a² = 2, sd_b² = 3: sqrt(2 / 2 + 3 / 3)
    assert standard_error(a, b) == pytest.approx(math.sqrt(2.0), abs=1e-15)
    assert differs(a, b) is True  # |2 - 5| = 3 > 2.83
    assert differs(a, Spread((3.8, 3.8, 6.8))) is False  # 2.8 < 2.83
    assert differs(a, Spread((9.0,))) is None
    assert differs(Spread((1.0, 1.0)), Spread((1.0, 1.0))) is False


def test_images_to_a_score_are_interpolated_in_both_logarithms() -> None:
    # From 4 to 1 over one doubling: 2 is half way, at 200·√2.
    assert images_to(CURVE, 2.0) == pytest.approx(200 * math.sqrt(2), rel=1e-15)
    assert images_to(CURVE, 4.0) == 200.0
    assert images_to(CURVE, 0.5) == 800.0
    assert images_to(CURVE, 9.0) == 100.0  # there at the first mark: an upper bound
    assert images_to(CURVE, 0.49) is None
    assert images_to([(100, 4.0), (200, 1.0), (400, 3.0)], 2.0) == pytest.approx(100 * math.sqrt(2))
    for curve, score in ((CURVE, 0.0), ([(100, 1.0), (200, -0.1)], 0.5), ([(100, math.nan)], 0.5)):
        with pytest.raises(ValueError, match="has no logarithm"):
            images_to(curve, score)


def test_a_score_between_marks_lies_on_the_same_line() -> None:
    assert score_at(CURVE, 200 * math.sqrt(2)) == pytest.approx(2.0, rel=1e-15)
    assert score_at(CURVE, 100) == 8.0 and score_at(CURVE, 800) == 0.5
    with pytest.raises(ValueError, match="outside"):
        score_at(CURVE, 900)


def test_the_share_of_the_last_third() -> None:
    # Two thirds of 800 lie log2(4/3) of the way from 400 to 800; the whole fall is 4 halvings,
    # and the last third has 1 - log2(4/3) of one.
    assert late_share(CURVE) == pytest.approx((1 - math.log2(4 / 3)) / 4, rel=1e-14)
    assert late_share([(100, 8.0), (300, 1.0), (600, 1.0)]) == 0.0
    assert late_share([(100, 8.0), (300, 1.0), (600, 2.0)]) < 0  # type: ignore[operator]
    assert late_share([(100, 1.0), (300, 1.0), (600, 1.0)]) is None
    assert late_share(CURVE[:2]) is None
    assert late_share([(500, 4.0), (600, 3.0), (700, 2.0)]) is None


def test_the_mean_curve_has_the_marks_that_all_have() -> None:
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(2, 8.0), (3, 1.0)]]) == [(2, 6.0)]
    assert mean_curve([]) == []


# run folders as training leaves them, written by hand -----------------------------------------

COLUMNS = (
    Column(key="fd/pixels", title="FD pixels"),
    Column(key="labels", title="labels", better="higher", unit="share", digits=1),
)


def fill(run: Run, score: float, curve: list[tuple[int, float]], rate: float = 100.0, **changes: Any) -> None:
    """What `genmem train` leaves of a run that ended with this score."""
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.toml").write_text(dump(run.recipe))
    logged = [json.dumps({"images": images, "fd/pixels": value}) + "\n" for images, value in curve]
    (run.folder / "metrics.jsonl").write_text("".join(logged))
    protocol = protocol_of(run.recipe, **changes)
    record = {"images": run.recipe.train.images, "run": {"images/s": rate}, "protocol": protocol.to_json()}
    (run.folder / "scores.json").write_text(json.dumps({**record, "table": table(score, protocol)}))


def table(score: float, protocol: Protocol) -> dict[str, Any]:
    cells = {"fd/pixels": Cell(score), "labels": Cell(0.5)}
    row = Row(name="samples", cells=cells)
    floor = {"fd/pixels": 0.25}
    return ScoreTable(title="", protocol=protocol.digest, columns=COLUMNS, rows=(row,), floor=floor).to_json()


def protocol_of(recipe, **changes: Any) -> Protocol:
    asked = asked_of(recipe)
    conditions = {"rule": asked.pop("conditions.rule")}
    features = {"use": "", "weights": "", "spaces": asked.pop("features.spaces")}
    features["lookup"] = asked.pop("features.lookup")
    given: dict[str, Any] = {
        "steps": recipe.sampler.config.evaluations,
        "conditions": conditions,
        "rounding": "clamp",
        "decoder": {"use": "", "weights": ""},
        "features": features,
        "reference": {"name": "held-out", "count": 360, "hash": ""},
        "memory": None,
        "precision": "fp32",
        **asked,
    }
    return Protocol(**{**given, **changes})


def planned(tmp_path: Path, *words: str, seeds: int = 2, axis: str = "0.1,0.2") -> Plan:
    return plan("digits/label", (f"--optimizer.lr={axis}", *words), seeds=seeds, out=tmp_path)


def filled(tmp_path: Path) -> Plan:
    """lr=0.1 ends at 1.0 and 1.2, lr=0.2 reaches their mean at 200·√2 images, and never."""
    found = planned(tmp_path)
    a, b, c, d = found.runs()
    fill(a, 1.0, [(100, 8.0), (200, 4.0), (400, 2.0), (800, 1.0)], 100.0)
    fill(b, 1.2, [(100, 8.0), (200, 4.0), (400, 2.0), (800, 1.2)], 300.0)
    fill(c, 3.0, [(100, 9.0), (200, 2.2), (400, 0.55), (800, 3.0)], 100.0)
    fill(d, 3.2, [(100, 9.0), (200, 5.0), (400, 4.0), (800, 3.2)], 100.0)
    return found


def test_rows_hold_means_over_seeds_and_images_to_the_baselines_mark(tmp_path: Path) -> None:
    outcome = outcome_of(filled(tmp_path))
    assert [row.name for row in outcome.rows] == ["lr=0.1", "lr=0.2"] and not outcome.missing
    assert outcome.mark() == pytest.approx(1.1, abs=1e-15)
    first, second = outcome.rows
    assert first.scores["fd/pixels"] == Spread((1.0, 1.2))
    assert outcome.against(second) is first and outcome.against(first) is None
    reached = outcome.reached("lr=0.2")
    assert reached is not None and reached[1] is None
    assert reached[0] == pytest.approx(200 * math.sqrt(2), rel=1e-12)


def test_the_table_in_words(tmp_path: Path) -> None:
    text = markdown(outcome_of(filled(tmp_path)))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0][:4] == ["configuration", "seeds", "FD pixels ↓", "labels ↑"]
    assert rows[2][1:4] == ["2", "1.100 ± 0.141", "50.0 % ± 0.0 %"]
    assert rows[3][1:4] == ["2", "3.100 ± 0.141 (+2.000)", "50.0 % ± 0.0 % (none)"]
    # 150,000 images of the recipe over 283
    assert rows[3][4] == f"283 ({150_000 / (200 * math.sqrt(2)):.2f}×, 1 of 2 runs)"
    assert rows[2][5] == "1.00 ± 0.71" and rows[3][5] == "0.50 ± 0.00"
    assert "images/s × (unreliable)" in rows[0]
    for said in ("Floor, the training pictures' own score: FD pixels 0.250", "4 marks, fewer than 12"):
        assert said in text
    assert "where some of the runs ran" in text


MEMORY = {"encoder": {"name": "pca"}, "width": 16, "rank": 8, "pixel_energy": 0.8491}


def remember(run: Run, held_out: float, decode: float) -> None:
    """Turn what `fill` wrote into what a run with a memory leaves."""
    file = run.folder / "scores.json"
    record = json.loads(file.read_text())
    (own,) = record["table"]["rows"]
    for name, score, floor in (
        ("samples, held-out rows", held_out, 0.5),
        ("linear decode of the rows", decode, 0),
    ):
        cells = {"fd/pixels": attrs.asdict(Cell(score)), "labels": attrs.asdict(Cell(0.25))}
        record["table"]["rows"].append(
            {**own, "name": name, "cells": cells, "floor": {"fd/pixels": floor} if floor else {}}
        )
    file.write_text(json.dumps({**record, "memory": MEMORY}))


def test_a_run_with_a_memory_has_three_rows_and_only_its_samples_are_compared(tmp_path: Path) -> None:
    found = filled(tmp_path)
    for number, run in enumerate(found.runs()[2:]):
        remember(run, 5.0 + number, 7.0)
    outcome = outcome_of(found)
    named = "lr=0.2 [pca, width 16, rank 8, 84.9 % of pixel energy]"
    rows = {cells[0]: cells for cells in lines(outcome, outcome.columns)}
    assert list(rows) == ["lr=0.1", f"{named}, held-out rows", named, f"{named}, linear decode"]
    assert rows[f"{named}, held-out rows"][1:6] == ["2", "5.500 ± 0.707", "25.0 % ± 0.0 %", "", ""]
    assert rows[named][2] == "3.100 ± 0.141 (+2.000)" and rows[named][5] == "0.50 ± 0.00"
    assert rows[f"{named}, linear decode"][1:6] == ["2", "7.000 ± 0.000", "25.0 % ± 0.0 %", "", ""]
    assert [outcome.against(row) is None for row in outcome.rows] == [True, True, False, True]
    text = markdown(outcome)
    assert "Floor, the training pictures' own score: FD pixels 0.250." in text
    assert "scored against the other; the floor there is FD pixels 0.500." in text
    told = [(row["kind"], row["memory"]) for row in to_json(outcome)["rows"]]
    assert told[1] == ("samples, held-out rows", "pca, width 16, rank 8, 84.9 % of pixel energy")


def test_a_raw_bank_has_no_rank_in_its_name() -> None:
    raw = {"encoder": "dino", "width": 768, "rank": None, "pixel_energy": 0.5}
    assert name_memory(raw) == "dino, width 768, 50.0 % of pixel energy"


def test_the_caption_says_when_the_baseline_is_undertrained(tmp_path: Path) -> None:
    found = planned(tmp_path, seeds=1)
    a, b = found.runs()
    fill(a, 1.0, CURVE)
    fill(b, 1.0, [(100, 8.0), (200, 1.01), (400, 1.0), (800, 1.0)])
    share = 100 * (1 - math.log2(4 / 3)) / 4
    assert (
        f"**The baseline is undertrained**: the last third of its images brought {share:.1f} %"
        in level_text(outcome_of(found))
    )
    other = planned(tmp_path, "--sweep.baseline=lr=0.2", seeds=1)
    assert "The baseline has levelled off: the last third of its images brought 0.0 %" in level_text(
        outcome_of(other)
    )
    assert "One seed has no spread: it is compared with nothing." in list(notes(outcome_of(found)))


def test_a_run_of_another_protocol_is_a_row_of_its_own_and_compared_with_nothing(tmp_path: Path) -> None:
    found = planned(tmp_path)
    a, b, c, d = found.runs()
    fill(a, 1.0, CURVE)
    fill(b, 1.0, CURVE)
    fill(c, 9.0, CURVE, precision="bf16")
    fill(d, 9.0, CURVE)
    outcome = outcome_of(found)
    assert [len(row.scores["fd/pixels"].values) for row in outcome.rows] == [2, 1, 1]
    assert len({row.protocol.digest for row in outcome.rows}) == 2
    assert outcome.against(outcome.rows[1]) is None and outcome.against(outcome.rows[2]) is not None
    assert outcome.reached("lr=0.2") is None
    assert "precision 'bf16', not 'fp32'" in markdown(outcome)


def test_methods_may_be_told_different_things_and_still_be_compared(tmp_path: Path) -> None:
    recipe = planned(tmp_path).configurations[0].recipe
    plain = protocol_of(recipe)
    memory = {"identity": "f00d", "rows": 9, "drawn": "uniformly"}
    assert comparable(
        plain, protocol_of(recipe, memory=memory, conditions={"rule": "uniform", "label": True})
    )
    assert not comparable(plain, protocol_of(recipe, samples=9))
    assert not comparable(plain, protocol_of(recipe, version=99))


def test_a_memory_that_only_one_has_is_told_in_words(tmp_path: Path) -> None:
    found = planned(tmp_path, seeds=1)
    a, b = found.runs()
    fill(a, 1.0, CURVE)
    fill(b, 1.0, CURVE, memory={"identity": {"encoder": {"name": "pca"}}, "rows": 9, "drawn": "uniformly"})
    (told,) = [note for note in notes(outcome_of(found)) if note.startswith("Protocol ")]
    assert told.endswith(": a memory, not none.")


def test_each_setting_is_compared_with_the_baseline_under_the_same(tmp_path: Path) -> None:
    found = planned(tmp_path, "--sampler.steps=25,50")
    for number, run in enumerate(found.runs()):
        fill(run, 1.0 + number, CURVE)
        write_scoring(run.folder / "evaluations" / "steps=50.json", run, "steps=50", run.recipe.train.images)
    outcome = outcome_of(found)
    first, second, third, fourth = outcome.rows
    assert [row.setting for row in outcome.rows] == ["steps=25", "steps=50", "steps=25", "steps=50"]
    assert outcome.against(third) is first and outcome.against(fourth) is second
    assert outcome.against(first) is None and outcome.against(second) is None
    cells = lines(outcome, outcome.columns)
    assert [row[1] for row in cells] == ["steps=25", "steps=50", "steps=25", "steps=50"]
    assert cells[0][-1] == cells[2][-1] != cells[1][-1] == cells[3][-1]
    assert all(cells[number][-3:-1] == ["", ""] for number in (1, 3))


def test_what_is_not_there_is_told_and_nothing_is_made_up(tmp_path: Path) -> None:
    found = planned(tmp_path)
    empty = outcome_of(found)
    assert len(empty.missing) == 4 and not empty.rows
    assert "nothing to compare with yet" in markdown(empty)
    assert plot(empty, tmp_path / "sweep.png") == "no plot: no run is complete yet"
    fill(found.runs()[0], 1.0, CURVE)
    some = outcome_of(found)
    assert some.missing == ("lr=0.1/seed=1", "lr=0.2/seed=0", "lr=0.2/seed=1")
    assert json.loads(json.dumps(to_json(some)))["rows"][0]["scores"]["fd/pixels"] == {
        "mean": 1.0,
        "sd": None,
        "values": [1.0],
    }


def test_without_matplotlib_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert plot(outcome_of(filled(tmp_path)), tmp_path / "sweep.png") == INSTALL
    assert "genmem[report]" in INSTALL and not (tmp_path / "sweep.png").exists()


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    assert plot(outcome_of(filled(tmp_path)), tmp_path / "sweep.png") is None
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*partial*"))


# which commands are left to run ---------------------------------------------------------------


def test_a_run_trains_until_it_is_complete_then_only_scores(tmp_path: Path) -> None:
    (run,) = plan("digits/label", ("--sampler.steps=25,50,10", "--train.images=20K"), out=tmp_path).runs()
    assert next_words(run, ()) == [train_words(run, ())]
    assert "--sampler.steps" not in " ".join(train_words(run, ()))
    fill(run, 1.0, CURVE)
    trained = Trained(run)
    assert trained.scores("steps=25") is not None  # what training ended with
    assert trained.missing() == ["steps=50", "steps=10"]
    file = run.folder / "evaluations" / "steps=50.json"
    words = ["genmem", "evaluate", str(run.folder), "--sampler.steps=50", "--out", str(file)]
    assert next_words(run, ())[0] == words == evaluate_words(run, "steps=50", ())
    write_scoring(file, run, "steps=50", 20_000)
    assert Trained(run).missing() == ["steps=10"]
    write_scoring(file, run, "steps=50", 10_000)  # of weights that have trained on
    assert Trained(run).missing() == ["steps=50", "steps=10"]
    write_scoring(file, run, "steps=10", 20_000)  # of another protocol
    assert Trained(run).missing() == ["steps=50", "steps=10"]


def write_scoring(file: Path, run: Run, setting: str, images: int) -> None:
    protocol = protocol_of(run.settings[setting])
    record = {"images": images, "protocol": protocol.to_json(), "table": table(1.0, protocol)}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record))


def test_a_longer_run_of_the_same_folder_goes_on(tmp_path: Path) -> None:
    (run,) = planned(tmp_path, seeds=1, axis="0.1,0.2").runs()[:1]
    fill(run, 1.0, CURVE)
    assert next_words(run, ()) == []
    longer = planned(tmp_path, "--train.images=1M", seeds=1).runs()[0]
    assert next_words(longer, ()) == [train_words(longer, ())]
    scored = planned(tmp_path, "--evaluate.samples=99", seeds=1).runs()[0]
    assert [words[:4] for words in next_words(scored, ())] == [
        ["genmem", "evaluate", str(run.folder), "--evaluate.samples=99"]
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--guidance=none,{use = 'cfg', scale = 2.0}", "--condition.drop=0.1"),
        ("--sampler.use=euler,heun,dopri5",),
        ("--sampler.use=ddim,euler", "--interpolant.use=vp", "--sampler.steps=9"),
        ("--evaluate.encoder.random-conv=none,{use = 'random-conv'}",),
        ("--evaluate.weights=ema,online", "--evaluate.seed=0,1"),
    ],
)
def test_overrides_of_a_scoring_lead_from_the_runs_recipe_to_what_was_asked(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (run,) = plan("digits/label", words, out=tmp_path).runs()
    for setting, asked in run.settings.items():
        found = loads(dump(run.recipe), run.recipe.name, Trained(run).overrides(setting))
        assert asked_of(found) == asked_of(asked), setting
        assert found.train == run.recipe.train


def test_folders_of_other_recipes_are_refused_all_at_once(tmp_path: Path) -> None:
    for run in planned(tmp_path).runs():
        fill(run, 1.0, CURVE)
    with pytest.raises(ValueError, match=r"train\.batch: 128 there, 64 here") as caught:
        refuse_strangers(planned(tmp_path, "--train.batch=64"))
    assert len(str(caught.value).splitlines()) == 4
    refuse_strangers(planned(tmp_path))


def test_scores_that_cannot_be_read_name_their_file(tmp_path: Path) -> None:
    run = planned(tmp_path).runs()[0]
    fill(run, 1.0, CURVE)
    (run.folder / "scores.json").write_text('{"images": 3')
    with pytest.raises(ValueError, match=r"scores.json holds no scores .* delete it"):
        outcome_of(planned(tmp_path))


def test_an_outcome_shows_only_columns_that_somebody_has(tmp_path: Path) -> None:
    outcome: Outcome = outcome_of(filled(tmp_path))
    titles = header(outcome, outcome.columns)
    assert all(len(cells) == len(titles) for cells in lines(outcome, outcome.columns))


def test_a_narrow_terminal_gets_every_cell_in_several_tables(tmp_path: Path) -> None:
    outcome = outcome_of(filled(tmp_path))
    console = Console(width=50, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown = list(tables(outcome, console.width))
    assert len(shown) > 1
    for table in shown:
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 50 and "…" not in text
    words = {word for line in lines(outcome, outcome.columns) for cell in line[1:] for word in cell.split()}
    assert words <= {*text.replace("│", " ").split()}
