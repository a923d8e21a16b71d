"""One run on one process, then two, then one; and steps that are not finite on one process of two."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import recovery_cases as cases
import torch
from killing import STEPS, go
from recovery_cases import BATCH, GUARD, Numbers, recipe_of
from running import assert_equal, ready, tensors_of, trainer_of
from safetensors.torch import load_file

from genmem.data.streaming.order import permute_epoch
from genmem.training import checkpoints, interruption
from genmem.training.integrity import load_state, numbered
from genmem.training.interruption import Interruption
from genmem.training.launch import spawn
from genmem.training.trainer import Trainer

MOVED = (4, 5, 3)
"""Steps on one process, on two, and on one."""

ROUNDING = 1e-6
"""Of weights, averages, moments and rows after twelve steps, which move weights by 1e-3; seen: 1e-7."""


class Case(NamedTuple):
    out: Path
    nan: tuple[str, ...]
    """Makes a sample of the seventh batch sick."""

    nans: tuple[str, ...]
    """Makes one of the fifth and one of the sixth batch sick; all three are the second process's."""

    moved: Trainer
    before: Numbers
    after: Numbers


def order_of(data: Path) -> np.ndarray:
    """Sample numbers of the global batches: epochs one after another, cut into batches."""
    counts = ready(recipe_of(data)).shards("train").counts
    epochs = range(1 + STEPS * BATCH // sum(counts))
    joined = np.concatenate([permute_epoch(0, epoch, counts) for epoch in epochs])
    return joined[: STEPS * BATCH].reshape(STEPS, BATCH)


def test_a_second_ctrl_c_stops_at_once_but_not_what_comes_with_the_first(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    wish = Interruption()
    for at, number in ((50.0, signal.SIGTERM), (50.9, signal.SIGINT), (60.0, signal.SIGTERM)):
        now[0] = at
        wish._handle(number, None)
    with pytest.raises(KeyboardInterrupt):
        wish._handle(signal.SIGINT, None)


def stop_after(steps: int) -> tuple[Interruption, Mapping[int, Callable[[], None]]]:
    wish = Interruption()
    return wish, {steps - 1: lambda: wish._handle(signal.SIGTERM, None)}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def order(data) -> np.ndarray:
    return order_of(data)


@pytest.fixture(scope="module")
def case(data, order, tmp_path_factory) -> Case:
    """Everything that two processes have to go through, in one start of them."""
    out = tmp_path_factory.mktemp("recovery")
    nan = (f"--objective.poison.sample={order[6][200]}",)
    nans = (f"--objective.poison.sample={order[4][200]}", f"--objective.poison.others=[{order[5][130]}]")
    before, after, recipe = Numbers(), Numbers(), recipe_of(data, *nan)
    wish, event = stop_after(MOVED[0])
    go(recipe, out / "moved", after=event, interruption=wish, made=before)
    spawn(cases.run_two, (data, out, nan, nans), 2)
    return Case(out, nan, nans, go(recipe, out / "moved", made=after), before, after)


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            second[name], value, atol=ROUNDING, rtol=ROUNDING, equal_nan=True, msg=name
        )


def test_from_one_process_to_two_and_back_the_data_are_the_same_and_the_weights_to_rounding(
    data, order, case, tmp_path
):
    """With a queue, objectives coupled in groups, accumulation, two averages, and skipped steps."""
    recipe, numbers = recipe_of(data, *case.nan), Numbers()
    straight = go(recipe, tmp_path, made=numbers)
    ranks = [json.loads((case.out / f"moved-{rank}.json").read_text()) for rank in (0, 1)]
    joined = [first + second for first, second in zip(*ranks, strict=True)]
    assert (len(case.before.steps), len(joined), len(case.after.steps)) == MOVED
    assert case.before.steps + joined + case.after.steps == numbers.steps == order.tolist()
    found = tensors_of(straight)
    assert_close(found, tensors_of(case.moved))
    assert straight.checkpoint().state == case.moved.checkpoint().state
    assert {"images": 7 * BATCH, "samples": order[6].tolist()} in lines(tmp_path / "skipped.jsonl")
    assert (tmp_path / "skipped.jsonl").read_text() == (case.out / "moved" / "skipped.jsonl").read_text()
    begun = tensors_of(trainer_of(recipe))
    for group in ("model/", "ema.ema/", "ema.slow/"):
        changes = [
            (value - found[name]).abs().max() for name, value in begun.items() if name.startswith(group)
        ]
        assert max(changes) > 1000 * ROUNDING, group


def test_nan_on_one_process_is_skipped_and_rolled_back_by_both(data, order, case, tmp_path):
    """What is left is what one process would have; and the same to the bit on both."""
    ranks = [load_file(case.out / f"straight-{rank}.safetensors") for rank in (0, 1)]
    assert_equal(*ranks)
    alone = go(recipe_of(data, *GUARD, *case.nans), tmp_path)
    assert_close(tensors_of(alone), ranks[0])
    state = load_state(numbered(case.out / "straight" / "checkpoints")[-1])["guard"]
    assert state == alone.guard.state() and state["rollbacks"] == 1
    (event,) = state["history"]
    assert (event["images"], event["to"]) == (7 * BATCH, 3 * BATCH)
    metrics = [lines(path / "metrics.jsonl") for path in (tmp_path, case.out / "straight")]
    for one, other in zip(*metrics, strict=True):
        assert one.get("loss/denoise", 0) == pytest.approx(other.get("loss/denoise", 0), rel=1e-5)
        assert one.get("skipped_steps") == other.get("skipped_steps")
    skipped = lines(case.out / "straight" / "skipped.jsonl")
    assert skipped[:2] == event["skipped"] and len(skipped) == state["skipped"]
    assert event["skipped"] == [
        {"images": (step + 1) * BATCH, "samples": order[step].tolist()} for step in (4, 5)
    ]


def test_where_nothing_helps_both_stop_with_the_same_report_and_the_same_weights(case):
    said = [(case.out / f"diverged-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1] and "after 2 of 2 roll-backs" in said[0] and "divergence.json" in said[0]
    report = json.loads((case.out / "diverged" / "divergence.json").read_text())
    assert [event["to"] for event in report["rollbacks"]] == [3 * BATCH] * 2
    assert report["skipped_steps"] == 6 and len(report["skipped_last"]) == 2
    ranks = [load_file(case.out / f"diverged-{rank}.safetensors") for rank in (0, 1)]
    assert_equal(*ranks)
    (*_, path) = numbered(case.out / "diverged" / "checkpoints")
    assert int(path.name) == 3 * BATCH
    saved = checkpoints.load(path).tensors
    for group, tensors in saved.items():
        assert_equal(tensors, {name: ranks[0][f"{group}/{name}"] for name in tensors})
