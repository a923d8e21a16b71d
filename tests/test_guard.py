"""Steps that are not finite: skipped, counted, rolled back, and in the end reported."""

from __future__ import annotations

import json
import random

import pytest
import torch
from killing import STEPS, Killed, dying_in_write, everything, go, same_end, same_records

from genmem.recipe.tables import GuardTable
from genmem.training.guard import Diverged, Guard
from genmem.training.integrity import load_state, numbered
from genmem.training.rollback import last_good
from genmem.training.scaling import LossScale
from genmem.training.writer import NotSaved

GOOD, BAD = torch.tensor(True), torch.tensor(False)


def watch(guard: Guard, *flags: torch.Tensor) -> Guard:
    for step, kept in enumerate(flags):
        guard.watch(32 * (step + 1), kept, torch.arange(step, step + 12))
    guard.settle()
    return guard


def test_a_guard_counts_and_names_every_sample():
    said, noted = [], []
    guard = watch(
        Guard(lambda line, images: said.append((line, images)), GuardTable(skips=2), noted.append),
        GOOD,
        BAD,
        GOOD,
        BAD,
    )
    assert (guard.skipped, guard.in_a_row, guard.spent) == (2, 1, False)
    assert noted == [
        {"images": 64, "samples": [*range(1, 13)]},
        {"images": 128, "samples": [*range(3, 15)]},
    ]
    line = "step skipped at 64 images: loss or gradient not finite (samples 1, 2, 3, 4, 5, 6, 7, 8, …)"
    assert said[0] == (line, 64) and said[1][1] == 128
    watch(guard, BAD)
    assert guard.spent


def test_a_guard_that_waits_for_a_device_in_vain_says_so():
    """On a GPU a process that hangs leaves the others' devices waiting, and never an error of the host's."""

    class Never:
        def query(self) -> bool:
            return False

    guard = Guard(lambda line, images: None, patience=0.01)
    guard.watch(32, GOOD, torch.arange(4))
    guard._pending[1]._event = Never()
    with pytest.raises(torch.distributed.DistError, match=r"Timed out: the device .* in 0\.01 s"):
        guard.settle()


def test_a_guard_looks_one_step_late():
    guard = Guard(print)
    guard.watch(32, BAD, torch.arange(2))
    assert guard.skipped == 0
    guard.watch(64, GOOD, torch.arange(2))
    assert guard.skipped == 1 and guard.in_a_row == 1


def test_what_a_guard_knows_survives_json():
    guard = watch(Guard(print, GuardTable(skips=2)), BAD, BAD)
    guard.roll_back(64, 32)
    watch(guard, BAD)
    other = Guard(print)
    other.load_state(json.loads(json.dumps(guard.state())))
    assert other.state() == guard.state() and other.rollbacks == 1 and other.in_a_row == 1
    assert other.history[0]["to"] == 32 and len(other.history[0]["skipped"]) == 2


def test_every_roll_back_gives_data_another_seed():
    guard = Guard(print)
    seeds = []
    for _ in range(4):
        seeds.append(guard.data_seed(7))
        guard.roll_back(64, 32)
    assert seeds[0] == 7 and len(set(seeds)) == 4


@pytest.fixture(scope="module")
def poisoned(data):
    """A skipped step is one too many: it rolls back at once."""
    return everything(data, "--guard.skips=1", "--guard.rollbacks=2")


@pytest.fixture(scope="module")
def straight(poisoned, tmp_path_factory):
    path = tmp_path_factory.mktemp("straight")
    return go(poisoned, path), path


def test_a_run_rolls_back_and_goes_on_with_other_data(poisoned, straight):
    trainer, path = straight
    assert trainer.finished and trainer.guard.rollbacks == 1 and trainer.guard.skipped == 1
    (event,) = trainer.guard.history
    assert (event["images"], event["to"]) == (192, 96)  # the flag of step 5 is read after step 6
    sample = poisoned.objective["poison"].objective.config.sample
    assert sample in event["skipped"][0]["samples"]
    assert all(value.isfinite().all() for value in trainer.assembly.state_dict().values())
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    warnings = [(record["images"], record["warning"]) for record in records if "warning" in record]
    assert [images for images, _ in warnings] == [160, 96] and "step skipped at 160" in warnings[0][1]
    assert "rolled back from 192 to 96 images" in warnings[1][1]
    images = [record["images"] for record in records if "loss/denoise" in record]
    assert images == [64, 128, 192, 256, 320, 384]
    report = json.loads((path / "divergence.json").read_text())
    assert report["stopped_at_images"] is None and report["rollbacks"] == trainer.guard.history
    skipped = [json.loads(line) for line in (path / "skipped.jsonl").read_text().splitlines()]
    assert skipped == event["skipped"]
    order = trainer.stream.batches(4)[1].index_B
    assert trainer.stream.seed != 0 and sample not in order.tolist()


def test_killed_at_any_step_or_in_any_write_the_end_is_the_same_to_the_bit(
    poisoned, straight, tmp_path, monkeypatch
):
    """20 random kills, roll-back, queue, bank, dispersive, accumulation, two EMAs and a NaN included."""
    expected, records = straight
    rng = random.Random(0)
    kills = [rng.randrange(1, STEPS + 3) for _ in range(14)] + [-rng.randrange(1, 26) for _ in range(6)]
    for number, kill in enumerate(kills):
        path = tmp_path / str(number)
        with pytest.raises((Killed, NotSaved)):
            if kill > 0:
                go(poisoned, path, kill_after=kill)
            else:
                with dying_in_write(monkeypatch, -kill, Killed()):
                    go(poisoned, path)
        same_end(expected, go(poisoned, path))
        same_records(records, path)


def test_after_too_many_roll_backs_a_run_stops_with_a_report(data, tmp_path):
    """Every batch is poisoned: nothing helps."""
    recipe = everything(data, "--guard.skips=2", "--guard.rollbacks=2", "--optimizer.lr=1e38")
    with pytest.raises(Diverged, match="after 2 of 2 roll-backs") as error:
        go(recipe, tmp_path)
    assert "divergence.json" in str(error.value)
    report = json.loads((tmp_path / "divergence.json").read_text())
    assert len(report["rollbacks"]) == 2 and report["stopped_at_images"] is not None
    assert len(report["skipped_last"]) == 2
    assert load_state(last_good(tmp_path / "checkpoints"))["guard"]["in_a_row"] == 0


def test_a_loss_scale_that_was_found_by_skipping_outlasts_the_roll_back(data, tmp_path, monkeypatch):
    """Gradients overflow above a scale of 2¹²; the second step has a NaN loss, which does not move it."""
    unscale = LossScale.unscale

    def overflow(scale, parameters):
        parameters = list(parameters)
        unscale(scale, parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(scale.value > 2.0**12, float("inf"))

    monkeypatch.setattr(LossScale, "unscale", overflow)
    trainer = go(everything(data, "--train.precision=fp16", "--guard.skips=3", step=1), tmp_path)
    assert trainer.finished and trainer.guard.rollbacks == 1
    assert float(trainer.scale.value) == 2.0**12 and trainer.guard.skipped == 4


def test_the_last_good_checkpoint_is_none_made_while_steps_were_skipped(data, tmp_path):
    recipe = everything(data, "--guard.skips=4", "--train.save_every=32", "--train.keep=20")
    go(recipe, tmp_path)
    found = numbered(tmp_path / "checkpoints")
    streaks = {path.name: load_state(path)["guard"]["in_a_row"] for path in found}
    assert streaks[f"{160:012d}"] == 1
    for path in found:
        if int(path.name) > 160:
            for file in path.rglob("*"):
                file.unlink() if file.is_file() else None
            (path / "state.json").touch()
    assert last_good(tmp_path / "checkpoints").name == f"{128:012d}"
