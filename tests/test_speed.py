"""Rates, MFU and the time left."""

from __future__ import annotations

import json

import distributed_cases as cases
import pytest
import torch
import torch.distributed as dist
from running import small_recipe, trainer_of

from genmem import collectives
from genmem.building import shapes_of
from genmem.profiling.step import flops_per_image, measure_step
from genmem.training import session, speed
from genmem.training.launch import spawn
from genmem.training.speed import Speed, measure_ceiling


def test_rates_are_worked_out_from_images():
    rates = Speed(images=1000, flops_per_image=2e9, ceiling=8e11).rates(400, 100.0)
    assert rates == {"images_per_s": 100.0, "seconds_left": 6.0, "mfu": 0.25}


def test_there_is_no_mfu_where_flops_are_not_known():
    rates = Speed(images=1000, flops_per_image=None, ceiling=8e11).rates(400, 100.0)
    assert set(rates) == {"images_per_s", "seconds_left"}


def test_nothing_is_told_of_the_time_left_at_a_stand():
    assert "seconds_left" not in Speed(images=1000, flops_per_image=None, ceiling=1.0).rates(400, 0.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_ceiling_is_a_product_over_its_seconds(monkeypatch, precision):
    dtypes = []
    monkeypatch.setattr(speed, "SIDE", {"cpu": 32})

    def shortest(work, device):
        dtypes.append(work().dtype)
        return 0.5

    monkeypatch.setattr(speed, "_shortest", shortest)
    assert measure_ceiling(torch.device("cpu"), precision) == 2 * 32**3 / 0.5
    assert dtypes == [{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]]


def test_flops_are_those_of_the_profile(data):
    recipe = small_recipe(data)
    shapes = shapes_of(trainer_of(recipe).dataset)
    assert flops_per_image(recipe, shapes) == measure_step(recipe, shapes).flops_per_image > 0


def test_alone_a_process_waits_for_nobody(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        real, dist.get_world_size = dist.get_world_size, lambda: 2
        assert collectives.world_size() == 2
        with collectives.alone():
            assert (collectives.world_size(), collectives.rank()) == (1, 0)
            assert collectives.gather(torch.ones(3)).shape == (3,)  # would wait for a second process
        assert collectives.world_size() == 2
    finally:
        dist.get_world_size = real
        dist.destroy_process_group()


LENGTH = ("--train.images=128", "--evaluate.every=128", "--evaluate.samples=64")


def test_a_run_logs_them(data, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "measure_ceiling", lambda device, precision: 1e9)
    from genmem.recipe import dump

    recipe = small_recipe(data, *LENGTH, "--train.trace=1")
    (tmp_path / "small.toml").write_text(dump(recipe))
    session.run(str(tmp_path / "small.toml"), (), (), tmp_path / "run", [])
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    lines = [record for record in records if "loss/denoise" in record]
    flops = flops_per_image(recipe, shapes_of(trainer_of(recipe).dataset))
    for line in lines:
        assert line["mfu"] == pytest.approx(line["images_per_s"] * flops / 1e9)
        assert line["seconds_left"] == pytest.approx((128 - line["images"]) / line["images_per_s"])
    assert {file.name for file in (tmp_path / "run" / "traces").iterdir()} == {
        f"{kind}-{128:012d}.json" for kind in ("steps", "memory")
    }
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["run"]["MFU"] == pytest.approx(sum(line["mfu"] for line in lines) / len(lines))


def test_of_two_processes_the_first_counts_and_both_are_timed(data, tmp_path):
    whole = ("--objective.spread.group=global",)  # gathered over processes
    recipe = small_recipe(data, *cases.EXACT, *whole)
    shapes = shapes_of(trainer_of(recipe).dataset)
    spawn(cases.write_speed, (data, tmp_path, *whole), 2)
    (flops, ceiling), (none, same) = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (0, 1))
    assert flops == flops_per_image(recipe, shapes, world=2) > 0
    assert none == 0.0 and ceiling == same > 0
