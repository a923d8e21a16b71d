"""Schedules, parameter groups, and the loss scale of fp16."""

from __future__ import annotations

import math

import pytest
import torch
from running import assert_equal, small_recipe, tensors_of, trainer_of
from torch import nn

from genmem.recipe.tables import GroupTable, OptimizerTable
from genmem.training import checkpoints
from genmem.training.compilation import NotCompiled, compiling
from genmem.training.optimization import Optimization, divide
from genmem.training.scaling import LossScale


def test_warm_up_is_a_line_and_a_cosine_is_half_a_turn():
    table = OptimizerTable(warmup=100, schedule="cosine-decay", final=0.1)
    assert [table.factor_at(images, 500) for images in (0, 25, 100)] == [0.0, 0.25, 1.0]
    for images in (100, 200, 300, 450, 500):
        expected = 0.1 + 0.9 * math.cos(math.pi * (images - 100) / 800) ** 2
        assert table.factor_at(images, 500) == pytest.approx(expected, abs=1e-12)
    assert table.factor_at(600, 500) == pytest.approx(0.1)  # a run that was made longer, then read back
    assert OptimizerTable(warmup=100).factor_at(400, 500) == 1.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 1)
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)


def test_groups_have_rates_of_their_own():
    table = OptimizerTable(
        lr=1e-3,
        weight_decay=0.1,
        group={
            "head": GroupTable(parameters=("head.*",), lr=1e-2),
            "biases": GroupTable(parameters=("*.bias",), weight_decay=0.0),
        },
    )
    net = Net()
    optimization = Optimization(table, net, 100)
    found = [
        (len(group["params"]), group["lr"], group["weight_decay"])
        for group in optimization.adamw.param_groups
    ]
    assert found == [(2, 1e-2, 0.1), (1, 1e-3, 0.0), (1, 1e-3, 0.1)]  # the head's bias went to the first
    assert "fixed" not in optimization.names
    for parameter in optimization.names.values():
        parameter.grad = torch.ones_like(parameter)
    before = {name: p.detach().clone() for name, p in optimization.names.items()}
    optimization.step(50, torch.tensor(1.0), [])
    # Adam's first step is lr · sign of the gradient; decay takes lr · wd · θ besides.
    for name, rate, decay in (("head.bias", 1e-2, 0.1), ("body.bias", 1e-3, 0.0), ("body.weight", 1e-3, 0.1)):
        moved = before[name] - optimization.names[name].detach()
        torch.testing.assert_close(moved, rate * (1 + decay * before[name]), rtol=1e-3, atol=1e-8)


def test_a_pattern_that_matches_nothing_is_refused():
    table = OptimizerTable(group={"x": GroupTable(parameters=("bodi.weight",))})
    with pytest.raises(ValueError, match=r"optimizer.group.x: no parameter is called 'bodi.weight', did you"):
        divide(table, dict(Net().named_parameters()))


def test_rates_follow_the_schedule(data):
    recipe = small_recipe(
        data,
        "--optimizer.warmup=0",
        "--optimizer.schedule=cosine-decay",
        tables='[optimizer.group.heads]\nparameters = ["objective.*"]\nlr = 1e-2\n',
    )
    trainer = trainer_of(recipe)
    for step in range(1, 4):
        trainer.step()
        factor = math.cos(math.pi * step * 32 / (2 * recipe.train.images)) ** 2
        rates = [group["lr"] for group in trainer.optimization.adamw.param_groups]
        assert rates == pytest.approx([1e-2 * factor, recipe.optimizer.lr * factor])


# fp16 ------------------------------------------------------------------------------------------


def test_the_scale_halves_on_overflow_and_doubles_after_patience():
    scale = LossScale(torch.device("cpu"), first=8.0, patience=3)
    found = []
    for step in ("good", "bad", "good", "good", "lost", "good", "good", "bad", "lost", "good"):
        scale.update(torch.tensor(step != "good"), torch.tensor(step == "lost"))
        found.append(float(scale.value))
    assert found == [8, 4, 4, 4, 4, 8, 8, 4, 4, 4]


def test_fp16_trains_like_fp32(data):
    half, single = (
        trainer_of(small_recipe(data, f"--train.precision={precision}")) for precision in ("fp16", "fp32")
    )
    for _ in range(10):
        values, exact = half.step(), single.step()
    half.guard.settle()
    assert half.guard.skipped == 0
    torch.testing.assert_close(values["loss/denoise"], exact["loss/denoise"], rtol=0.05, atol=0)
    torch.testing.assert_close(values["gradient_norm"], exact["gradient_norm"], rtol=0.2, atol=0)
    assert all(p.dtype == torch.float32 for p in half.assembly.parameters())


def test_an_overflow_is_skipped_writes_no_memory_and_halves_the_scale(data):
    trainer = trainer_of(small_recipe(data, "--train.precision=fp16"))
    trainer.step()
    trainer.scale.value.fill_(2.0**40)
    before = tensors_of(trainer)
    trainer.step()
    trainer.guard.settle()
    assert trainer.guard.skipped == 1
    assert float(trainer.scale.value) == 2.0**39
    after = tensors_of(trainer)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert (
        {"optimizer/loss_scale/value"}
        <= set(changed)
        <= {
            "optimizer/loss_scale/value",
            "optimizer/loss_scale/good",
        }
    )


def test_fp16_resumes_bit_for_bit(data, tmp_path):
    recipe = small_recipe(data, "--train.precision=fp16")
    straight, first, second = (trainer_of(recipe) for _ in range(3))
    straight.scale.patience = first.scale.patience = second.scale.patience = 3
    for _ in range(5):
        straight.step()
    for _ in range(2):
        first.step()
    second.restore(
        checkpoints.load(checkpoints.save(tmp_path, first.images_seen, first.checkpoint(), keep=1))
    )
    for _ in range(3):
        second.step()
    assert_equal(tensors_of(straight), tensors_of(second))
    assert float(second.scale.value) == 2.0**17


def test_a_compiler_that_fails_is_told_with_the_way_out(data):
    """As inductor does on a file that a killed process left torn in its cache."""

    def fails(graph, example_inputs):
        raise ImportError("ab/cd.main.so: file too short")

    torch.compiler.set_default_backend(fails)
    try:
        trainer = trainer_of(small_recipe(data, "--train.compile=true"))
        with pytest.raises(NotCompiled) as error, compiling():
            trainer.step()
    finally:
        torch.compiler.set_default_backend("inductor")
        torch.compiler.reset()
    said = str(error.value)
    assert "ImportError: ab/cd.main.so: file too short" in said
    assert "delete /" in said and "--train.compile=false" in said


@pytest.mark.slow
def test_compiled_blocks_train_alike_and_can_be_looked_into(data):
    compiled, eager = (
        trainer_of(small_recipe(data, f"--train.compile={flag}", "--train.inspect_every=64"))
        for flag in ("true", "false")
    )
    for _ in range(4):
        fast, plain = compiled.step(), eager.step()
    assert fast.keys() == plain.keys()
    torch.testing.assert_close(fast["loss/total"], plain["loss/total"], rtol=1e-4, atol=1e-5)
    assert tensors_of(compiled).keys() == tensors_of(eager).keys()
