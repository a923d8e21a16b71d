"""`genmem train --dry-run`: bytes as processes really hold them, and a plan that adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import forecast_cases as cases
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from running import ROOT, ready, small_recipe, trainer_of

from genmem.building import Shapes, expected_shapes, shapes_of
from genmem.cli import main
from genmem.contracts import Batch
from genmem.data.making.specs import stored_dtype
from genmem.draws import Draws
from genmem.profiling.activations import count_saved_bytes
from genmem.profiling.forecast import forecast
from genmem.profiling.forecast_table import duration
from genmem.profiling.records import count_record_bytes
from genmem.recipe import load
from genmem.recipe.tables import Recipe
from genmem.training.launch import spawn

EXACT = ("weights", "gradients", "optimizer", "ema", "memory.negatives")


def said(found: object, width: int = 200) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found)
    return console.export_text()


def test_under_ddp_a_process_holds_what_was_forecast(data, tmp_path):
    world = 2
    recipe = small_recipe(data, *cases.SETTINGS, tables=cases.SLOW_EMA)
    shapes = shapes_of(ready(recipe))
    spawn(cases.note_bytes, (data, tmp_path), world)
    held = json.loads((tmp_path / "0.json").read_text())
    (share,) = forecast(recipe, shapes, [world]).shares
    assert {part: share.ddp[part] for part in EXACT} == held
    assert share.ddp["reduction buckets"] == held["gradients"]


def test_under_fsdp_a_process_holds_its_padded_share(data, tmp_path):
    world = 2
    recipe = small_recipe(data, *cases.SETTINGS, tables=cases.SLOW_EMA)
    shapes = shapes_of(ready(recipe))
    spawn(cases.note_bytes, (data, tmp_path, "--train.shard=true"), world)
    held = json.loads((tmp_path / "0.json").read_text())
    (share,) = forecast(recipe, shapes, [world]).shares
    assert {part: share.fsdp[part] for part in EXACT} == held
    assert world * share.fsdp["weights"] > share.ddp["weights"], "there is padding to be found"


def test_activations_are_those_of_a_step(data):
    recipe = small_recipe(data, "--train.batch=64", "--train.micro_batch=32")
    trainer = trainer_of(recipe)
    (share,) = forecast(recipe, shapes_of(trainer.dataset), [1]).shares
    assert share.ddp["activations"] == pytest.approx(saved_by(trainer.assembly, trainer), rel=0.15)
    assert (share.batching.micro, share.batching.accumulation) == (32, 2)


def saved_by(assembly, trainer) -> int:
    """Bytes that autograd saves in the forward of a real micro-batch."""
    batch = trainer.stream.batches(0)[0]
    return saved_of(assembly, trainer.averages.modules, batch, 10**9)


def saved_of(assembly, averages, batch: Batch, images: int) -> int:
    draws = Draws(0, batch.index_B, batch.round_B)
    known = [
        t for module in (assembly, *averages.values()) for t in (*module.parameters(), *module.buffers())
    ]
    return count_saved_bytes(lambda: assembly(batch, draws, images, averages).total, known)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["sit-b2-repulsor", "sit-b2"])
def test_activations_at_s2_are_those_of_a_cpu_run(size):
    """pytest -m slow tests/test_forecast.py"""
    from genmem.building import Builder
    from genmem.training.averages import Averages

    recipe = load(f"imagenet256/{size}", ["--backbone.size=S", "--train.batch=16", "--train.images=64K"])
    shapes, cpu = expected_shapes(recipe), torch.device("cpu")
    (share,) = forecast(recipe, shapes, [1]).shares
    builder = Builder(recipe, shapes)
    memories = builder.memories(cpu)
    assembly = builder.assembly(memories, cpu)
    averages = Averages(recipe.ema, assembly.backbone, lambda: builder.backbone(memories, cpu))
    number_B = torch.arange(16)
    zero_B = torch.zeros_like(number_B)
    x = Draws(0, number_B).normal("x", shapes.sample_shape)
    batch = Batch(x, number_B % 1000, number_B, zero_B, zero_B, {}, {})
    real = saved_of(assembly, averages.modules, batch, 10**9)
    print(f"activations of {size} at S/2, batch 16: forecast {share.ddp['activations']:,}, run {real:,}")
    assert share.ddp["activations"] == pytest.approx(real, rel=0.15)


def test_a_batch_that_cannot_be_shared_is_counted_larger_and_said(data):
    alone = ("--objective=none", "--memory.negatives=none")
    recipe = small_recipe(data, "--train.batch=48", small=alone)
    found = forecast(recipe, shapes_of(ready(recipe)), [2, 7])
    assert [share.batching.batch for share in found.shares] == [48, 49]
    assert found.shares[0].note == ""
    assert "train.batch = 48 cannot be shared equally by 7 processes" in found.shares[1].note
    assert found.shares[1].note.endswith("counted with train.batch = 49")
    assert "* 7 processes: train.batch = 48 cannot be shared" in said(found)


def test_groups_that_are_coupled_are_whole_in_the_batch_that_is_counted():
    recipe = load("imagenet256/sit-b2-repulsor", ["--backbone.size=S"])
    share = forecast(recipe, expected_shapes(recipe), [64]).shares[0]
    assert share.batching.batch == 64 * 16 and "groups of 16" in share.note


def test_what_a_component_asks_of_the_batch_is_asked_of_the_recipes_own(data):
    """The quickstart's queue is too short for a batch that 512 processes would share."""
    recipe = small_recipe(data, small=())
    (share,) = forecast(recipe, shapes_of(ready(recipe)), [512]).shares
    assert share.batching.batch == 512 * 16
    assert share.fsdp["activations"] > 0 and share.ddp["memory.negatives"] > 0


def test_records_are_those_of_the_set_and_of_the_tokenizer_before_it(data, tmp_path):
    recipe = small_recipe(data)
    shapes = shapes_of(ready(recipe))
    prepared = count_record_bytes(recipe, shapes)
    assert prepared == {"x": 64, "memory.bank": prepared["memory.bank"]}
    elsewhere = attrs.evolve(recipe, data=attrs.evolve(recipe.data, path=str(tmp_path / "none")))
    assert count_record_bytes(elsewhere, shapes) == prepared


def test_a_tokenizer_says_how_a_sample_is_stored_before_it_is_built():
    config = load("quickstart").data.tokenizer.config
    spec = config.build().spec((8, 6, 3))
    assert config.record(spec.shape) == (spec.shape, stored_dtype(spec.dtype, "fp16"))


def imagenet(*overrides: str) -> Recipe:
    return load("imagenet256/sit-b2", ["--backbone.size=S", *overrides])


@pytest.mark.parametrize(("overrides", "size"), [((), 4), (("--data.precision=fp16",), 2)])
def test_latents_of_imagenet_are_mean_and_deviation(overrides, size):
    recipe = imagenet(*overrides)
    assert count_record_bytes(recipe, expected_shapes(recipe)) == {"x": 2 * 4 * 32 * 32 * size}


def test_rates_and_times_follow_from_the_images_a_second():
    recipe = imagenet()
    found = attrs.evolve(forecast(recipe, expected_shapes(recipe), [8]), images_per_s=1024.0)
    text = " ".join(said(found).split())
    assert "102,400,000 images in 400,000 steps of 256" in text
    assert "read at 1,024 images/s: 32.00 MiB/s in all, 4.00 MiB/s by one of 8" in text
    assert "at 1,024 images/s: 1 d 3 h 47 min" in text  # 100,000 s
    assert "--images-per-s N" in said(attrs.evolve(found, images_per_s=None))
    assert "only the tokenizer, built, knows" in said(attrs.evolve(found, record_bytes={}))
    assert "FLOPs of training not known" in said(attrs.evolve(found, flops_per_image=None))


def test_three_sizes_of_a_job_stand_whole_in_a_narrow_terminal():
    """One unit in the table; SiT-S/2 has 33 M parameters."""
    recipe = imagenet()
    found = forecast(recipe, expected_shapes(recipe), [8, 64, 512])
    lines = [line.split() for line in said(found, width=80).splitlines()]
    cells = {line[1]: line[3::2] for line in lines if line[:1] == ["│"] and len(line) == 15}
    share = found.shares[2]
    for part, size in (("optimizer", share.fsdp["optimizer"]), ("all", sum(share.fsdp.values()))):
        assert cells[part][5] == f"{size / 2**30:.3f}"
    assert [float(cell) for cell in cells["ema"][::2]] == pytest.approx([33e6 * 4 / 2**30] * 3, rel=0.01)
    assert {"weights", "gradients", "activations"} < cells.keys()
    four = attrs.evolve(found, shares=(*found.shares, found.shares[0]))
    totals = [line.split()[3::2] for line in said(four, width=80).splitlines() if line.startswith("│ all ")]
    assert [len(cells) for cells in totals] == [6, 2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "59 s"), (60, "1 min"), (3600, "1 h"), (90_060, "1 d 1 h 1 min"), (7199, "2 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_fsdp_shares_rows_and_pads_them_to_the_largest_share():
    recipe = imagenet()
    shapes = Shapes(sample_shape=(4, 32, 32), num_classes=1000, num_samples=10)
    (one,) = forecast(recipe, shapes, [1]).shares
    (many,) = forecast(
        attrs.evolve(recipe, train=attrs.evolve(recipe.train, batch=1024)), shapes, [512]
    ).shares
    assert one.ddp["weights"] == one.fsdp["weights"]
    # No share is smaller than a 512th, and none has more than a row of each tensor above it.
    assert one.ddp["weights"] / 512 < many.fsdp["weights"] < one.ddp["weights"] / 100
    assert many.ddp["weights"] == one.ddp["weights"]


MEASURE = """
import resource, sys
from genmem.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_the_largest_recipe_is_reckoned_without_being_allocated(tmp_path):
    recipe = ROOT / "recipes" / "imagenet256" / "sit-xl2-repulsor.toml"
    words = ("train", str(recipe), "--dry-run", "--images-per-s", "2400")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"COLUMNS": "160", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "DDP",
        "FSDP",
        "8 ",
        "64*",
        "512*",
        "gradients",
        "memory.negatives",
        "11 h 51 min",
        "32,768",
    ):
        assert text in done.stdout, text
    weights = 676_294_416 * 4
    assert int(done.stderr.split()[-1]) * 1024 < weights, "peak memory of the whole process"
    assert not [path for path in tmp_path.iterdir() if path.name in ("runs", "data")]


def test_a_rate_without_a_dry_run_is_refused():
    done = CliRunner().invoke(main, ["train", "quickstart", "--images-per-s", "10"])
    assert done.exit_code == 2 and "goes with --dry-run" in done.output


def test_a_recipe_that_does_not_say_what_its_data_hold_says_so(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('extends = "quickstart"\n[data]\npath = "nowhere"\nexpect = "none"\n')
    done = subprocess.run(
        [sys.executable, "-m", "genmem", "train", str(file), "--dry-run"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "add [data.expect] with sample_shape and num_classes, or prepare the set" in " ".join(
        done.stderr.split()
    )
