"""The hard cases, each through the contracts as they are: none is a special case."""

from __future__ import annotations

import pytest
import torch
from running import SMALL, STRESS, assert_equal, small_recipe, tensors_of, trainer_of

from genmem.building import shapes_of
from genmem.contracts import Facts
from genmem.draws import Draws
from genmem.sampling.generator import generator_of
from genmem.training import checkpoints

QUIET = ("--objective=none", "--memory.negatives=none")


MORE = """
[memory.more]
use = "sharded"
"""
BOTH = """
[objective.both]
use = "two-memories"
weight = 0.1
tap = 1
writes = "more"
reads = "bank"
"""
TEACHER = """
[objective.teacher]
use = "teacher"
weight = 0.1
tap = 2
"""
VIEW = """
[objective.view]
use = "second-view"
weight = 0.1
tap = 1
"""
POISON = """
[objective.poison]
use = "poison"
weight = 1.0
"""
MEAN = """
[interpolant]
use = "average-velocity"
"""
VARIANCE = """
[interpolant]
use = "learned-variance"
"""
MIXER = """
[backbone]
use = "pixel-mixer"
"""


def stressed(data, tables, *overrides):
    return small_recipe(data, *overrides, tables=tables, plugins=[STRESS])


def losses(trainer, steps=3):
    return [{key: float(value) for key, value in trainer.step().items()} for _ in range(steps)]


def test_two_times_and_a_jacobian_vector_product_with_taps(data):
    trainer = trainer_of(stressed(data, MEAN, "--backbone.span=true", "--backbone.attention=math"))
    assert all(torch.isfinite(torch.tensor(list(values.values()))).all() for values in losses(trainer))
    assert trainer.images_seen == 96 and trainer.guard.skipped == 0


def test_the_average_velocity_identity_holds_in_closed_form(tmp_path, monkeypatch):
    """Data N(0, s²): u = z (1 - σ_r/σ_t) / (t - r) makes the regression's loss vanish."""
    monkeypatch.syspath_prepend(STRESS.parent)
    from stress_parts import AverageVelocity

    from genmem.contracts import Conditioning, Prediction, Times

    variance = 0.49

    def spread(t):
        return ((1 - t) ** 2 * variance + t**2).sqrt()

    def network(z, t, cond):
        t, span = (part.view(-1, 1, 1, 1) for part in (t, cond.span_B))
        return Prediction(z * (1 - spread(t - span) / spread(t)) / span, {})

    class Known(AverageVelocity):
        def target(self, x, noise, t, /):
            """The marginal velocity, which this network knows."""
            z, t = self.mix(x, noise, t), t.view(-1, 1, 1, 1)
            return z * (t - (1 - t) * variance) / spread(t) ** 2

    draws = Draws(0, torch.arange(64))
    x, noise = draws.normal("x", (1, 2, 2)).double() * variance**0.5, draws.normal("e", (1, 2, 2)).double()
    t = 0.2 + 0.8 * draws.uniform("t").double()
    times = Times(t, t * (0.1 + 0.8 * draws.uniform("s").double()))
    result = Known().regress(network, x, noise, times, Conditioning())
    assert result.loss_B.abs().max() < 1e-20


def test_a_learned_variance_trains_its_own_channels(data):
    trainer = trainer_of(stressed(data, VARIANCE, *QUIET))
    before = trainer.assembly.backbone.state_dict()["final_layer.linear.weight"].clone()
    losses(trainer)
    moved = (trainer.assembly.backbone.state_dict()["final_layer.linear.weight"] - before).abs()
    per_channel = moved.view(-1, 2, moved.shape[-1]).amax((0, 2))
    assert (per_channel > 0).all()


def test_a_second_view_and_a_teacher_stopped_at_a_block(data):
    trainer = trainer_of(stressed(data, VIEW + TEACHER))
    for values in losses(trainer):
        assert values["objective/view"] > 0 and values["objective/teacher"] >= -1e-6


def test_two_memories_at_once_beside_the_one_that_conditions(data):
    trainer = trainer_of(stressed(data, MORE + BOTH))
    counts = [values["objective/both/count"] for values in losses(trainer)]
    assert counts == [0, 32, 64]


@pytest.mark.parametrize("micro", [16, 32])
def test_a_sharded_memory_under_accumulation_and_a_skipped_step(data, micro):
    overrides = ["--memory.negatives=none", "--objective.spread=none"]
    overrides += ["--objective.repel.memory=more", f"--train.micro_batch={micro}"]
    trainer = trainer_of(stressed(data, MORE + POISON, *overrides))
    clean = trainer_of(stressed(data, MORE, *overrides))
    poisoned_steps = [3 in torch.cat([b.index_B for b in trainer.stream.batches(step)]) for step in range(45)]
    step = poisoned_steps.index(True)
    trainer.steps = clean.steps = step
    trainer.step()
    assert len(trainer.memories["more"].state()["rows"]) == 0
    clean.step()
    assert len(clean.memories["more"].state()["rows"]) == 32
    trainer.step()
    assert len(trainer.memories["more"].state()["rows"]) == 32


def test_a_backbone_that_is_no_transformer(data):
    recipe = small_recipe(
        data, tables=MIXER, plugins=[STRESS], small=[key for key in SMALL if "backbone" not in key]
    )
    trainer = trainer_of(recipe)
    losses(trainer)
    conditioner = trainer.assembly.conditioner
    backbone = trainer.averages.modules["ema"]
    generator = generator_of(recipe, backbone, conditioner, shapes_of(trainer.dataset), trainer.device)
    assert generator.sample(torch.arange(3), 0).x.shape == (3, 1, 8, 8)


def test_everything_at_once_resumes_exactly(data, tmp_path):
    recipe = stressed(data, MORE + BOTH + TEACHER + POISON)
    straight, before, after = (trainer_of(recipe) for _ in range(3))
    losses(straight, 5)
    losses(before, 2)
    after.restore(checkpoints.load(checkpoints.save(tmp_path, 64, before.checkpoint(), keep=1)))
    losses(after, 3)
    assert_equal(tensors_of(straight), tensors_of(after))


def test_facts_are_all_a_component_needs():
    """A component is built from shapes and counts alone."""
    assert not {"recipe", "dataset", "catalog"} & {field.name for field in Facts.__attrs_attrs__}
