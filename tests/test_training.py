"""The trainer: one owner of the step, exact resume, skipped steps that leave no trace."""

from __future__ import annotations

import math

import pytest
import torch
from running import STRESS, assert_equal, small_recipe, tensors_of, trainer_of
from synchronisation import no_host_synchronisation

from genmem.training import checkpoints
from genmem.training.batching import plan

EVERYTHING = "[ema.slow]\ndecay = 0.99\n[condition]\ndrop = 0.1\n"


def run_steps(trainer, steps):
    for _ in range(steps):
        trainer.step()
    return trainer


def test_loss_falls(data):
    trainer = trainer_of(small_recipe(data, "--train.batch=64"))
    first = [float(trainer.step()["loss/denoise"]) for _ in range(5)]
    run_steps(trainer, 60)
    last = [float(trainer.step()["loss/denoise"]) for _ in range(5)]
    assert sum(last) < 0.7 * sum(first)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_resume_is_exact_bit_for_bit(data, tmp_path, cut):
    """N steps = k + save + load + (N - k), with queue (wrapped), bank, two EMAs and dropping."""
    recipe = small_recipe(data, tables=EVERYTHING)
    straight = run_steps(trainer_of(recipe), 6)
    before = run_steps(trainer_of(recipe), cut)
    path = checkpoints.save(tmp_path, before.images_seen, before.checkpoint(), keep=2)
    after = trainer_of(recipe)
    after.restore(checkpoints.load(path))
    run_steps(after, 6 - cut)
    assert_equal(tensors_of(straight), tensors_of(after))


@pytest.mark.parametrize("micro", [8, 32])
def test_accumulation_gives_the_same_weights_ema_and_queue(data, micro):
    """1, 2 and 8 micro-batches; two objectives that couple groups of 8 among them."""
    exact = ("--train.batch=64", "--memory.negatives.dtype=fp32")
    exact += ("--objective.spread.group=8", "--objective.repel.group=8")
    whole = trainer_of(small_recipe(data, *exact))
    split = trainer_of(small_recipe(data, *exact, f"--train.micro_batch={micro}"))
    assert split.batching.accumulation == 64 // micro
    for _ in range(3):
        values, others = whole.step(), split.step()
        # AdamW and clipping would hide a gradient of another size.
        for name in ("gradient_norm", "loss/denoise", "objective/spread", "objective/repel"):
            torch.testing.assert_close(values[name], others[name], atol=1e-4, rtol=1e-4, msg=name)
    first, second = tensors_of(whole), tensors_of(split)
    assert_equal(first, second, atol=2e-5)
    assert torch.equal(first["memory.negatives/ids"], second["memory.negatives/ids"])


def test_a_step_that_is_not_finite_changes_nothing_but_the_counter(data):
    poison = (
        f'[objective.poison]\nuse = "poison"\nweight = 1.0\nsample = {_a_sample_of_the_second_step(data)}'
    )
    poisoned = small_recipe(data, tables=poison, plugins=[STRESS])
    messages: list[str] = []
    trainer = trainer_of(poisoned, messages)
    trainer.step()
    before = tensors_of(trainer)
    values = trainer.step()
    trainer.guard.settle()
    assert math.isnan(float(values["loss/total"]))
    assert_equal(before, tensors_of(trainer))
    assert trainer.guard.skipped == 1 and trainer.images_seen == 64
    assert "not finite" in messages[0]
    trainer.step()
    trainer.guard.settle()
    assert trainer.guard.skipped == 1
    assert int(trainer.memories["negatives"].state()["total"]) == 64


def test_an_ordinary_step_never_makes_the_host_wait(data):
    """Only the guard looks at a number, and that of the step before. Attention has a test of its own."""
    plain = ("--objective.repel=none", "--memory.negatives=none", "--train.micro_batch=16")
    trainer = run_steps(trainer_of(small_recipe(data, *plain, tables=EVERYTHING)), 2)
    trainer.guard.settle()
    trainer.guard.watch = lambda images_seen, kept, index_B: None
    with no_host_synchronisation():
        trainer.step()


def test_what_an_objective_computes_in_fp32_it_differentiates_in_fp32(data):
    """Under autocast the products of its backward would be rounded to bf16, every one."""
    trainer = trainer_of(small_recipe(data, "--train.precision=bf16"))
    found = []
    weights = [p for p in trainer.assembly.objective["repel"].parameters() if p.ndim == 2]
    for weight in weights:
        weight.register_hook(lambda gradient: found.append(gradient.clone()))
    trainer.step()
    assert len(found) == len(weights) > 0
    for gradient in found:
        assert not torch.equal(gradient, gradient.bfloat16().float())


def _a_sample_of_the_second_step(data) -> int:
    return int(trainer_of(small_recipe(data)).stream.batches(1)[0].index_B[0])


def test_an_inactive_objective_is_not_computed_and_its_parameters_do_not_move(data):
    recipe = small_recipe(data, "--objective.repel.start=96", "--objective.repel.ramp=64")
    trainer = trainer_of(recipe)
    before = {name: value.clone() for name, value in trainer.assembly.objective["repel"].named_parameters()}
    for _ in range(3):
        values = trainer.step()
        assert "objective/repel" not in values
    for name, value in trainer.assembly.objective["repel"].named_parameters():
        assert torch.equal(value, before[name])
        assert value not in trainer.optimization.adamw.state
    table = recipe.objective["repel"]
    assert [table.weight_at(seen) / table.weight for seen in (0, 95, 96, 128, 160, 10**6)] == [
        0,
        0,
        0,
        0.5,
        1,
        1,
    ]
    run_steps(trainer, 2)
    moved = [not torch.equal(v, before[n]) for n, v in trainer.assembly.objective["repel"].named_parameters()]
    assert any(moved)


def test_a_checkpoint_of_other_data_is_refused(data, tmp_path):
    trainer = trainer_of(small_recipe(data))
    checkpoint = trainer.checkpoint()
    checkpoint.state["fingerprints"]["data"] = "another"
    with pytest.raises(ValueError, match="another data"):
        trainer.restore(checkpoint)


def test_what_is_exported_for_sampling_is_the_plain_backbone(data, tmp_path):
    """No inference cost: an objective leaves no trace in the weights that sample."""
    trainer = trainer_of(small_recipe(data))
    path = checkpoints.save(tmp_path, 0, trainer.checkpoint(), keep=1)
    plain = trainer_of(small_recipe(data, "--objective=none", "--memory.negatives=none"))
    for name in ("ema", "online"):
        weights = checkpoints.weights(path, name)
        expected = plain.assembly.backbone.state_dict()
        assert {key: value.shape for key, value in weights.items()} == {
            k: v.shape for k, v in expected.items()
        }


@pytest.mark.parametrize(
    ("overrides", "world", "message"),
    [
        ((), 3, "train.batch = 32 cannot be shared equally by 3 processes; it can by 1, 2, 4, 8, 16, 32"),
        ((), 4, "no micro-batch fits"),
    ],
)
def test_a_split_that_does_not_come_out_even_is_refused_with_what_would(data, overrides, world, message):
    with pytest.raises(ValueError, match=message):
        plan(small_recipe(data, *overrides), world)
