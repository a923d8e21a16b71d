"""Runs held against each other: figures worked out by hand, refusals, and what is said in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from comparing_parts import MEMORY, cells, keep_scoring, make_memory_run, make_run, protocol

from genmem.building import Builder, Shapes
from genmem.cli import main
from genmem.comparing.axes import Scale, spread_out
from genmem.comparing.comparison import Comparison, compare
from genmem.comparing.differences import differences
from genmem.comparing.verdict import verdicts
from genmem.comparing.words import images_text, reach_text
from genmem.recipe import load
from genmem.scoring.protocol import ProtocolMismatch
from genmem.scoring.table import SAMPLES, Cell

LR = "--optimizer.lr=0.002"


def seeds(folder: Path, name: str, scores: tuple[float, ...], *words: str, **more: Any) -> list[Path]:
    """Runs of one configuration."""
    return [
        make_run(folder / name / f"seed={seed}", score, f"--train.seed={seed}", *words, **more)
        for seed, score in enumerate(scores)
    ]


def said(found: Comparison) -> str:
    return " ".join(f"{one.about}: {one.text}" for verdict in verdicts(found) for one in verdict.statements)


def test_runs_that_differ_in_the_seed_alone_are_one_row(tmp_path: Path) -> None:
    plain = seeds(tmp_path, "plain", (1.0, 2.0, 6.0))
    other = seeds(tmp_path, "other", (0.5, 0.7), LR)
    found = compare([plain[0], other[0], plain[1], other[1], plain[2]])
    assert [group.name for group in found.groups] == ["plain", "other"]
    best, second = found.standing.tasks[0].entries
    assert best.name == "other"
    assert second.figures["fd/pixels"].spread.mean == 3.0
    assert second.figures["fd/pixels"].spread.sd == pytest.approx(math.sqrt(7.0), rel=1e-14)
    assert best.figures["fd/pixels"].spread.mean == pytest.approx(0.6, rel=1e-14)
    # √(0.02/2 + 7/3) = 1.53 > 2.4/2
    assert "2 and 3 training seeds the spread does not tell it from plain" in said(found)
    assert [(one.key, one.values) for one in differences(found.groups)] == [
        ("optimizer.lr", ("0.004", "0.002"))
    ]


def test_a_difference_larger_than_the_spread_is_told(tmp_path: Path) -> None:
    runs = seeds(tmp_path, "plain", (3.0, 3.1)) + seeds(tmp_path, "other", (1.0, 1.1), LR)
    assert "Ahead of every other by more than twice the standard error" in said(compare(runs))


def test_sets_of_noise_are_not_training_seeds(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 1.0)
    other = make_run(tmp_path / "other", 9.0, LR)
    assert "is not known" in said(compare([plain, other]))
    several = protocol(seeds=(0, 1, 2))
    keep_scoring(plain, "a", several, Cell.of_several([1.0, 2.0, 3.0]))
    keep_scoring(other, "b", several, Cell.of_several([5.0, 6.0, 7.0]))
    found = compare([plain, other])  # more sets of noise win
    assert found.groups[0].protocol == several
    estimate = found.standing.tasks[0].best.figures["fd/pixels"]
    assert (estimate.spread.mean, estimate.spread.sd, estimate.over) == (2.0, 1.0, "sets of noise")
    assert "over sets of noise, not over trainings" in said(found)


def test_a_seeds_score_is_its_mean_over_sets_of_noise(tmp_path: Path) -> None:
    several = protocol(seeds=(0, 1))
    values = {0: [1.0, 3.0], 1: [5.0, 6.0]}
    runs = [
        make_run(tmp_path / f"a-{seed}", Cell.of_several(some), f"--train.seed={seed}", scored=several)
        for seed, some in values.items()
    ]
    found = compare(runs)
    assert found.groups[0].name == "a"
    estimate = found.standing.tasks[0].best.figures["fd/pixels"]
    assert estimate.spread.values == (2.0, 5.5) and estimate.over == "training seeds"
    assert estimate.spread.sd == stdev((2.0, 5.5))


def test_other_protocols_are_refused_with_the_keys_and_ranked_when_forced(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 1.0)
    other = make_run(tmp_path / "other", 0.5, LR, scored=protocol(steps=50, precision="bf16"))
    with pytest.raises(ProtocolMismatch) as caught:
        compare([plain, other])
    message = str(caught.value)
    assert f"steps: 25 for {plain} ({protocol().digest}), 50 for {other}" in message
    assert "precision: 'fp32'" in message and "genmem evaluate" in message
    assert "sampler" not in message.partition("score them")[0]
    forced = compare([plain, other], force=True)
    assert forced.standing.forced and len(forced.standing.tasks[0].entries) == 2
    keep_scoring(other, "alike", protocol(), Cell(4.0))
    found = compare([plain, other])
    assert not found.standing.forced
    assert [one.name for one in found.standing.tasks[0].entries] == ["plain", "other"]
    assert found.curve is None and "different protocols" in found.trouble


def test_a_memory_is_another_task_and_held_out_rows_come_first(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 2.0)
    gmem = make_memory_run(tmp_path / "gmem", held_out=1.5, samples=1.0)
    found = compare([plain, gmem])
    label, memory = found.standing.tasks
    assert [one.name for one in label.entries] == ["plain"] and memory.memory
    assert [one.name for one in memory.entries] == ["gmem, held-out rows"]
    assert [one.name for one in memory.asides] == [
        "gmem, rows of the bank",
        "gmem, linear decode of the rows",
    ]
    assert found.reached(found.groups[1]) is None  # a curve of another task
    told = verdicts(found)[1]
    assert "another task" in told.caveats[0] and told.told.endswith("(pca, width 16, 85.0 % of pixel energy)")


def test_images_to_the_baselines_last_score(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 1.0, curve=((100, 8.0), (800, 2.0)))
    other = make_run(tmp_path / "other", 1.0, LR)
    found = compare([plain, other])
    reached = found.reached(found.groups[1])
    # From 4 to 1 over one doubling of images: 2 is half way, at 200·√2; the baseline saw 1,000.
    assert reached is not None and reached.runs[0] == pytest.approx(200 * math.sqrt(2), rel=1e-14)
    assert reach_text(found, found.groups[1]) == f"283 ({1000 / (200 * math.sqrt(2)):.2f}×)"
    asked = compare([plain, other], reach=0.4)
    assert reach_text(asked, asked.groups[1]) == "not reached"
    assert reach_text(asked, asked.groups[0]) == "not reached"


def test_costs_are_those_of_inference_and_objectives_add_none(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 2.0)
    other = make_run(tmp_path / "other", 1.0, source="digits/dispersive")
    found = compare([plain, other])
    label, dispersive = (found.costs[name] for name in ("plain", "other"))
    assert label.reason == "" and dispersive.reason == ""
    recipe = load("digits/label")
    shapes = Shapes(sample_shape=(1, 8, 8), num_classes=10, num_samples=1437, feature_widths={"pca": 16})
    network = Builder(recipe, shapes).backbone({}, torch.device("cpu"))
    assert label.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert label.macs is not None and label.sample_flops == 2 * 25 * label.macs
    assert (label.parameters, label.macs, label.bytes) == (
        dispersive.parameters,
        dispersive.macs,
        dispersive.bytes,
    )
    assert label.training_flops is not None and dispersive.training_flops is not None
    assert dispersive.training_flops >= label.training_flops > 3 * label.macs
    assert "as many FLOPs a sample" in said(found)


def test_a_run_without_a_checkpoint_says_why_its_costs_are_absent(tmp_path: Path) -> None:
    import shutil

    plain = make_run(tmp_path / "plain", 2.0)
    shutil.rmtree(plain / "checkpoints")
    costs = compare([plain]).costs["plain"]
    assert costs.parameters is None and "no checkpoint" in costs.reason


def test_a_gaussian_that_wins_and_copies_are_told(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 2.0, gaussian=1.0)
    rows = {SAMPLES: cells(Cell(3.0), copies=0.4)}
    other = make_run(tmp_path / "other", 3.0, LR, rows=rows)
    caveats = " ".join(verdicts(compare([plain, other]))[0].caveats)
    assert "A Gaussian" in caveats and "the samples of other, 40.0 %" in caveats and "of plain" not in caveats
    honest = make_run(tmp_path / "honest", 2.0, gaussian=2.5)
    assert not verdicts(compare([honest]))[0].caveats


def refusal(*words: Any) -> str:
    result = CliRunner().invoke(main, ["compare", *map(str, words)])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_bad_input_is_refused_and_no_page_is_written(tmp_path: Path) -> None:
    plain, twin = make_run(tmp_path / "plain", 1.0), make_run(tmp_path / "twin", 1.0)
    page = tmp_path / "page.html"
    assert "is no run folder" in refusal(tmp_path / "nowhere", "-o", page)
    assert "is named twice" in refusal(plain, plain)
    assert "would count as two" in refusal(plain, twin, "-o", page)
    assert "did you mean 'labels'" in refusal(plain, "--by", "lables")
    (twin / "scores.json").write_text("[1]")
    assert f"{twin}/scores.json holds no JSON object" in refusal(plain, twin)
    (twin / "scores.json").write_text('{"images": 3}')
    assert f"{twin}/scores.json holds no scores" in refusal(plain, twin)
    (twin / "scores.json").unlink()
    assert f"`genmem evaluate {twin}` makes them" in refusal(plain, twin, "-o", page)
    other = make_run(tmp_path / "other", 1.0, LR, scored=protocol(steps=9))
    assert "cannot be ranked: steps: 25 for" in refusal(plain, other, "-o", page)
    assert not page.exists()


def test_every_number_as_json(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, "plain", (1.0, 2.0)), make_memory_run(tmp_path / "gmem", 1.5, 1.0)]
    result = CliRunner().invoke(main, ["compare", "--json", "--by", "labels", *map(str, runs)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["by"] == "labels" and found["baseline"] == "plain"
    first = found["tasks"][0]["ranked"][0]["scores"]["fd/pixels"]
    assert (first["mean"], first["min"], first["values"]) == (1.5, 1.0, [1.0, 2.0])
    assert set(found["protocols"]) == {
        protocol().digest,
        protocol(memory=MEMORY, conditions={"rule": "uniform", "label": False}).digest,
    }


def test_scales_and_ticks() -> None:
    scale = Scale.around([1, 100], 0, 10, logarithmic=True)
    assert scale(10) == pytest.approx(5.0) and scale.ticks() == [1, 2, 5, 10, 20, 50, 100]
    straight = Scale.around([0.0, 10.0], 0, 100, logarithmic=False, zero=True)
    assert straight(0) == 0 and straight.ticks() == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ValueError, match="no logarithm"):
        Scale.around([0.0, 1.0], 0, 1, logarithmic=True)
    places = spread_out([50, 51, 10], 15, 0, 100)
    assert places[2] == 10 and places[1] - places[0] == pytest.approx(15, abs=0.01)
    assert [images_text(n) for n in (999, 1500, 25_088, 2.5e6)] == ["999", "1.5K", "25.1K", "2.5M"]
