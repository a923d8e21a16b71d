"""The harness of the benchmarks; nothing here depends on how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from genmem.building import Builder, prepare_files, shapes_of
from genmem.draws import Draws
from genmem.recipe import load
from genmem.training.guard import Guard
from genmem.training.trainer import Trainer
from genmem_bench import negatives
from genmem_bench.allocations import highest, peak_bytes
from genmem_bench.bare_loop import BareLoop, Weights
from genmem_bench.commands import bench
from genmem_bench.rounds import Timing, interleave, ratio

CPU = torch.device("cpu")


def test_forms_run_in_turn() -> None:
    """Every form once a round, the order turning, the first round not counted."""
    order: list[str] = []
    ticks = iter(range(1000))
    timings = interleave(
        {name: lambda name=name: order.append(name) for name in "abc"},  # type: ignore[misc]
        rounds=3,
        clock=lambda: float(next(ticks)),
    )
    assert "".join(order) == "cab" + "abc" + "bca" + "cab"
    assert {name: timing.seconds for name, timing in timings.items()} == {
        name: (1.0, 1.0, 1.0) for name in "abc"
    }


def test_the_clock_waits_for_the_device() -> None:
    """Before it starts and before it stops."""
    seen: list[str] = []

    def clock() -> float:
        seen.append("clock")
        return 0.0

    interleave({"a": lambda: seen.append("run")}, 1, lambda: seen.append("wait"), clock)
    assert seen[-5:] == ["wait", "clock", "run", "wait", "clock"]


def test_ratios_are_of_minima() -> None:
    """The least disturbed rounds; the spread says how disturbed the rest were."""
    slow, fast = Timing((4.0, 9.0, 5.0)), Timing((2.0, 2.5, 80.0))
    assert ratio(slow, fast) == 2.0
    assert (slow.spread, fast.spread) == (0.25, 0.25)


def test_peak_of_allocations() -> None:
    """What lives at once, in the order of time, internal buffers included."""
    assert highest([(3.0, 100), (1.0, 7), (2.0, -7), (4.0, 20), (5.0, -100), (6.0, 90)]) == 120
    assert highest([]) == 0
    kept = torch.ones(250_000)

    def two_at_once() -> None:
        first = kept * 2
        second = first + 1
        del first
        second.add_(1)

    assert 2_000_000 <= peak_bytes(two_at_once, CPU) < 2_100_000


def small(rows: int = 3000) -> negatives.Problem:
    """A small problem."""
    return negatives.pose(rows, 16, 8, CPU)


def test_both_forms_agree_and_a_difference_is_noticed() -> None:
    """Value and gradient; own ids really hidden."""
    problem = small()
    ours, theirs = negatives.one_pass(problem), negatives.straightforward(problem)
    negatives.require_equal(ours, theirs)
    unmasked = negatives.straightforward(problem._replace(ids_B=torch.full((8,), -5)))
    with pytest.raises(AssertionError, match="the two forms differ: value by"):
        negatives.require_equal(ours, unmasked)
    with pytest.raises(AssertionError, match="gradient by"):
        negatives.require_equal((theirs[0], theirs[1] * 1.01), theirs)


@pytest.fixture
def result() -> Iterator[dict[str, Any]]:
    """The benchmark's own object, tiny."""
    run = CliRunner().invoke(
        bench,
        ["negatives", "--rows", "512,49152", "--width", "4", "--batch", "64", "--rounds", "2", "--json"],
    )
    assert run.exit_code == 0, run.output
    yield json.loads(run.stdout)


def test_json_is_one_object(result: dict[str, Any]) -> None:
    """Seconds and bytes as numbers, one entry for each size; no memory that grows with the rows."""
    assert result["benchmark"] == "negatives" and [size["rows"] for size in result["sizes"]] == [512, 49152]
    for size in result["sizes"]:
        assert all(isinstance(size[key], float) for key in ("seconds", "compared_seconds", "ratio", "spread"))
        assert all(
            isinstance(size[key], int) for key in ("extra_bytes", "compared_extra_bytes", "bank_bytes")
        )
        assert size["ratio"] == pytest.approx(size["compared_seconds"] / size["seconds"])
        assert size["bank_bytes"] == size["rows"] * (4 * 4 + 8)
        assert size["compared_extra_bytes"] >= 64 * size["rows"] * 4
    assert result["sizes"][1]["extra_bytes"] < 64 * 16_384 * 4  # not even one chunk's products


def test_the_table_is_for_people() -> None:
    """The same figures, formatted."""
    run = CliRunner().invoke(
        bench, ["negatives", "--rows", "512", "--width", "16", "--batch", "8", "--rounds", "1"]
    )
    assert run.exit_code == 0 and "512" in run.output and "×" in run.output


@pytest.mark.parametrize("rows", ["many", "0", "1,,2", ""])
def test_sizes_that_are_none(rows: str) -> None:
    """Refused before anything runs."""
    run = CliRunner().invoke(bench, ["negatives", "--rows", rows])
    assert run.exit_code == 2 and "no list of numbers above 0" in run.output


def test_the_sampler_benchmark_counts_what_it_saves() -> None:
    """It asserts by itself that both forms give equal samples."""
    options = ["--steps", "20", "--depth", "1", "--width", "64", "--batch", "2", "--rounds", "1", "--json"]
    done = CliRunner().invoke(bench, ["sampler", *options])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["sde_heun_evaluations"] == 39 and said["sde_heun_plain_evaluations"] == 78
    assert said["guidance_evaluations"] == 22 and said["guidance_plain_evaluations"] == 40
    assert said["guidance_interval_ratio"] == pytest.approx(40 / 22)
    assert said["sde_heun_ratio"] > 0 and said["guidance_wall_ratio"] > 0


def bench_step(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(bench, ["step", *words, "--rounds", "2", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_the_step_benchmark_tells_every_part(data: Path) -> None:
    """Seconds of each part, FLOP/s beside a ceiling, and steps by hand, measured in the same run."""
    paths = [f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"']
    said = bench_step("quickstart", *paths, "--train.batch=16")
    parts = [said[f"{part}_s"] for part in ("loader", "forward", "backward", "optimizer", "ema", "memory")]
    assert min(parts) > 0 and said["batch"] == 16
    assert said["images_per_s"] == pytest.approx(16 / sum(parts))
    assert said["flops_per_s"] > 0 and said["ceiling_flops_per_s"] > 0
    assert said["trainer_overhead"] == pytest.approx(said["trainer_s"] / said["bare_s"] - 1)
    assert said["reference_ratio"] == pytest.approx(said["plain_s"] / said["trainer_s"])
    assert said["fused_optimizer_alone_ratio"] > 0 and said["foreach_ema_alone_ratio"] > 0
    assert said["compile_alone_ratio"] is None and said["save_stall"] > 0


SHAPED = ["imagenet256/sit-b2", "--backbone.size=none", "--backbone.depth=1", "--backbone.width=64"]


def test_the_step_benchmark_needs_no_data() -> None:
    """Random numbers of the shape that the recipe expects stand in for them."""
    said = bench_step(*SHAPED, "--backbone.heads=1", "--train.batch=2", "--synthetic")
    assert said["recipe"] == "sit-b2" and said["trainer_s"] > 0


def test_without_an_expectation_there_is_nothing_to_stand_in() -> None:
    done = CliRunner().invoke(bench, ["step", "quickstart", "--synthetic"])
    assert isinstance(done.exception, ValueError) and "add [data.expect]" in str(done.exception)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("foreach", [False, True])
def test_the_steps_by_hand_do_the_same_work(data: Path, fused: bool, foreach: bool) -> None:
    """Given the trainer's draws, every form ends with the trainer's weights and averages."""
    small = ["--backbone.depth=1", "--backbone.width=32", "--train.batch=16", "--optimizer.clip=0.5"]
    plain = ["--optimizer.warmup=0", "--ema.ema.ramp=false", f'--data.path="{data}/digits"']
    recipe = load("digits/label", [*small, *plain], ())
    trainer = Trainer(recipe, prepare_files(recipe), CPU, Guard(print))
    weights = Weights(Builder(recipe, shapes_of(trainer.dataset)), CPU)
    batches = [batch for step in range(3) for batch in trainer.stream.batches(step)]
    loop = BareLoop(weights, batches, weights.twin(), fused=fused, foreach=foreach, draws=Draws)
    for _ in range(3):
        trainer.step()
        loop.step()
    for hand, own in ((weights.assembly, trainer.assembly), *_averages(weights, trainer)):
        for name, value in own.state_dict().items():
            torch.testing.assert_close(hand.state_dict()[name], value, atol=1e-6, rtol=1e-5, msg=name)


def _averages(weights: Weights, trainer: Trainer) -> list[tuple[nn.Module, nn.Module]]:
    return [(module, trainer.averages.modules[name]) for name, module in weights.averages.items()]


def test_the_overhead_benchmark_compares_with_the_first(data: Path) -> None:
    """A step of every recipe, each divided by the first one's."""
    small = ["--backbone.depth=3", "--backbone.width=32", "--train.batch=16", f'--data.path="{data}/digits"']
    recipes = ["digits/label", "digits/dispersive", "digits/layersync"]
    options = ["--rounds", "1", "--steps", "2", "--json"]
    done = CliRunner().invoke(bench, ["overhead", *recipes, *small, *options])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)["recipes"]
    assert [row["recipe"] for row in rows] == ["label", "dispersive", "layersync"]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / rows[0]["seconds"])
        assert row["images_per_s"] == pytest.approx(16 / row["seconds"])
