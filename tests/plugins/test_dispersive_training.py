"""In training: accumulation changes neither loss nor gradient, and any interpolant serves the twins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dispersive_parts import FORMS
from running import ROOT, trainer_of

from genmem.draws import Draws
from genmem.recipe import loads
from genmem.training.trainer import Trainer

SPREAD = """
extends = "{label}"
[objective.spread]
use = "dispersive"
tap_fraction = 0.5
weight = 1.0
"""
SMALL = (
    "--backbone.depth=2",
    "--backbone.width=32",
    "--train.batch=32",
    "--train.images=320",
    "--optimizer.warmup=0",
    "--evaluate.samples=256",
    "--evaluate.every=320",
)


def trainer(data: Path, *options: str, spread: str = "group=4") -> Trainer:
    """One of a small network on digits, with the dispersive loss beside the denoising loss."""
    words = (f'--data.path="{data}/digits"', *SMALL, *options)
    keys = (f"--objective.spread.{key}" for key in spread.split())
    toml = SPREAD.format(label=ROOT / "recipes" / "digits" / "label.toml")
    return trainer_of(loads(toml, "spread", (*words, *keys)))


def gradients(one: Trainer) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The objective's value and the gradient of the total loss, over the micro-batches of a step."""
    micros = one.stream.batches(0)
    value = torch.zeros(())
    for batch in micros:
        draws = Draws(one.recipe.train.seed, batch.index_B, batch.round_B)
        losses = one.model(batch, draws, 0, {})
        (losses.total / len(micros)).backward()
        value += losses.values["objective/spread"] / len(micros)
    return value, {name: p.grad for name, p in one.model.named_parameters() if p.grad is not None}


SPREADS = [*(f"form={form}" for form in FORMS), "positive=independent", "form=covariance positive=restricted"]


@pytest.mark.parametrize("spread", SPREADS)
def test_accumulation_changes_nothing(data, spread):
    """One micro-batch of 8 groups, 4 of 2, 8 of 1."""
    expected, *others = (
        gradients(trainer(data, f"--train.micro_batch={micro}", spread=f"group=4 {spread}"))
        for micro in (32, 8, 4)
    )
    assert len(expected[1]) > 20
    for found in others:
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
        assert found[1].keys() == expected[1].keys()
        for name, gradient in found[1].items():
            torch.testing.assert_close(gradient, expected[1][name], rtol=1e-3, atol=2e-6, msg=name)


def test_a_global_group_is_never_cut(data):
    with pytest.raises(ValueError, match="couples the whole batch, which micro-batches of 8 tear apart"):
        trainer(data, "--train.micro_batch=8", spread='group="global"')


@pytest.mark.parametrize("interpolant", ["linear", "vp", "ddpm", "meanflow"])
@pytest.mark.parametrize("positive", ["independent", "restricted"])
def test_twins_train_on_any_interpolant(data, interpolant, positive):
    network = ("--backbone.span=true", "--backbone.attention=math") if interpolant == "meanflow" else ()
    network += ("--backbone.learn_sigma=true",) if interpolant == "ddpm" else ()
    sampler = {"meanflow": ("--sampler.use=meanflow",), "ddpm": ("--sampler.use=ddpm",)}.get(interpolant, ())
    one = trainer(
        data,
        f"--interpolant.use={interpolant}",
        *network,
        *sampler,
        spread=f"group=4 positive={positive}",
    )
    scalars = one.step()
    distance = scalars["objective/spread/positive_distance"]
    assert 0 < distance < scalars["objective/spread/distance"]
    assert scalars["gradient_norm"].isfinite()


@pytest.mark.parametrize("form", FORMS[:3])
def test_training_with_it_spreads_the_states(data, form):
    """Against the same seed without it (a weight of 1e-9): distances rise, and so does the RMS."""
    found = []
    for weight in (1e-9, 0.5):
        one = trainer(data, f"--objective.spread.weight={weight}", spread=f"group=16 form={form}")
        for _ in range(10):
            scalars = one.step()
        found.append(scalars)
    without, with_it = found
    assert with_it["objective/spread/distance"] > 1.1 * without["objective/spread/distance"]
    assert with_it["objective/spread/rms"] > without["objective/spread/rms"]
