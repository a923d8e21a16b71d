"""A look inside a step: RMS of hidden states, pull of objectives; it must not disturb the step.

Objectives' warnings and their `commit` are here too: what the trainer tells and asks them.
"""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console
from running import assert_equal, small_recipe, tensors_of, trainer_of

from genmem.contracts import Objective, Prediction, TappedConfig
from genmem.recipe import RecipeError
from genmem.scoring.report import Scores
from genmem.training.folder import RunFolder
from genmem.training.inspection import gradient_ratios, hidden_rms
from genmem.training.interruption import Interruption
from genmem.training.journal import Journal
from genmem.training.loop import train
from genmem.training.progress import TrainingProgress
from genmem.training.speed import Speed
from genmem.training.trace import Trace
from genmem.training.writer import Writer

EVERY_STEP = "--train.inspect_every=32"


def test_ratio_is_that_of_gradients_at_the_tap():
    """denoise = a·h₁ + h₂², term = 3 b·h₁: the ratio at tap 1 is 3‖b‖/‖a + ∂h₂²/∂h₁‖ by hand."""
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    weight = torch.ones(2, requires_grad=True)
    first = weight * torch.tensor([1.0, 2.0])
    second = 2 * first
    prediction = Prediction(second, {1: first, 2: second})
    denoise, term = a @ first + second.square().sum(), 3 * (b @ first)
    found = gradient_ratios(prediction, denoise, {"x": term}, {"x": (1,)})
    main = a + 8 * first.detach()
    torch.testing.assert_close(found["objective/x/gradient_ratio"], 3 * b.norm() / main.norm())
    assert weight.grad is None
    # Nothing of the term passes through the second state: there is no ratio to tell, not a 0.
    assert gradient_ratios(prediction, denoise, {"x": term}, {"x": (2,)}) == {}


def test_rms_is_of_the_numbers():
    hidden = torch.randn(3, 4, 5, dtype=torch.float64)
    found = hidden_rms(Prediction(hidden, {2: hidden}))["rms/block/2"]
    assert float(found) == pytest.approx(float((hidden**2).mean() ** 0.5), rel=1e-6)


def test_a_look_changes_nothing(data):
    seeing, blind = (
        trainer_of(small_recipe(data, f"--train.inspect_every={images}", "--train.micro_batch=16"))
        for images in (32, 10**6)
    )
    for _ in range(3):
        seen, plain = seeing.step(), blind.step()
    assert {"rms/block/1", "rms/block/2", "objective/spread/gradient_ratio"} <= seen.keys()
    assert not any("gradient_ratio" in name or name.startswith("rms/") for name in plain)
    assert_equal(tensors_of(seeing), tensors_of(blind))


def test_ratio_follows_the_weight(data):
    once, twice = (
        trainer_of(small_recipe(data, EVERY_STEP, f"--objective.spread.weight={weight}")).step()
        for weight in (0.05, 0.1)
    )
    name = "objective/spread/gradient_ratio"
    torch.testing.assert_close(2 * once[name], twice[name], rtol=1e-4, atol=0)


class _Counting(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.kept = inner, []

    def forward(self, step, /):
        return self.inner(step)

    def commit(self, keep):
        self.kept.append(bool(keep))


def test_an_objective_is_told_of_every_step_in_which_it_acts(data):
    trainer = trainer_of(small_recipe(data, "--objective.spread.start=64", "--train.micro_batch=16"))
    counting = _Counting(trainer.assembly.objective["spread"])
    trainer.assembly.objective["spread"] = counting
    for _ in range(4):
        trainer.step()
    assert counting.kept == [True, True]  # not the two before its start; once a step, not a micro-batch


def test_a_warning_is_said_once_while_it_stands(data, tmp_path):
    said = {3: "too near", 4: "nearer still", 7: "again"}
    looks = iter(range(1, 100))

    class Warns:
        def __init__(self, config):
            self.config = config

        def __getattr__(self, name):
            return getattr(self.config, name)

        def warn(self, metrics):
            assert "rms" in metrics
            return said.get(next(looks))

    recipe = small_recipe(data, "--train.log_every=32", "--evaluate.every=1M")
    trainer = trainer_of(recipe)
    seat = recipe.objective["spread"].objective
    object.__setattr__(seat, "config", Warns(seat.config))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (folder.path / "checkpoints").mkdir()
    console = Console(file=io.StringIO(), width=200)
    journal = Journal(folder, console, {})
    bar = TrainingProgress(console, recipe.train.images, 0, shown=False)
    trace = Trace(None, folder.traces, trainer.device, journal.say)
    with Writer(folder.checkpoints, 1) as writer:
        speed = Speed(recipe.train.images, None, 1.0)
        train(trainer, journal, writer, lambda images: Scores({}, {}), bar, speed, trace, Interruption())
    records = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    told = [(r["images"], r["warning"]) for r in records if "warning" in r]
    assert told == [(96, "objective 'spread': too near"), (224, "objective 'spread': again")]
    assert console.file.getvalue().count("too near") == 1


@pytest.mark.parametrize(
    ("settings", "depth", "taps"),
    [
        ({"tap": "all"}, 3, (1, 2, 3)),
        ({"tap": (5, 2)}, 8, (2, 5)),
        ({"tap_fraction": (0.25, 1.0)}, 12, (3, 12)),
        ({"tap_fraction": (0.01, 0.02)}, 12, (1,)),
        ({"tap_fraction": 0.25}, 28, (7,)),
    ],
)
def test_taps(settings, depth, taps):
    assert _Spread(**settings).taps(depth) == taps


def test_one_tap_only():
    for given in ({"tap": "all"}, {"tap": (1, 2)}, {"tap_fraction": (0.1, 0.5)}):
        with pytest.raises(ValueError, match="name another objective"):
            _Single(**given)


class _Spread(TappedConfig):
    def build(self, facts):
        raise NotImplementedError


class _Single(_Spread):
    several_taps = False


EXPECT = "[data.expect]\nsample_shape = [1, 8, 8]\nnum_classes = 10\nnum_samples = 1437\nfeatures.pca = 16\n"


def test_a_set_is_what_is_expected(data):
    trainer_of(small_recipe(data, tables=EXPECT))
    for key, wrong in (("num_classes", 1000), ("num_samples", 1436), ("features.pca", 8)):
        with pytest.raises(ValueError, match=rf"data.expect.{key} is {wrong}, the set has"):
            trainer_of(small_recipe(data, f"--data.expect.{key}={wrong}", tables=EXPECT))


def test_expected_shapes_are_told_without_data(data):
    from genmem.building import expected_shapes, shapes_of

    recipe = small_recipe(data, tables=EXPECT)
    assert expected_shapes(recipe) == shapes_of(trainer_of(recipe).dataset)
    with pytest.raises(ValueError, match=r"add \[data.expect\]"):
        expected_shapes(small_recipe(data))
    with pytest.raises(RecipeError, match="sample_shape"):
        small_recipe(data, tables="[data.expect]\nnum_classes = 3\n")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_further_forward_has_the_precision_of_the_first(data, precision):
    """The same inputs again give the same numbers, bit for bit, in fp32 and under autocast."""
    trainer = trainer_of(small_recipe(data, f"--train.precision={precision}"))
    found = {}

    class Asks(torch.nn.Module):
        def forward(self, step, /):
            found["first"] = step.prediction.output
            found["again"] = step.again(step.x_t, step.times.t, step.cond).output
            found["teacher"] = step.again(step.x_t, step.times.t, step.cond, weights="ema").output
            return Objective(found["again"].float().square().mean())

    trainer.assembly.objective["spread"] = Asks()
    trainer.step()
    assert torch.equal(found["first"], found["again"])
    assert torch.equal(found["first"], found["teacher"])  # before the first update they are one
    assert found["again"].requires_grad and not found["teacher"].requires_grad


def test_a_run_from_before_a_key_existed_goes_on(data, tmp_path):
    """A recorded recipe lacks keys that came later: they are taken at their defaults."""
    from genmem.host import load_catalog
    from genmem.training.folder import RunFolder

    recipe = small_recipe(data)
    folder = RunFolder(tmp_path)
    folder.begin(recipe, load_catalog(), [])
    written = folder.recipe.read_text()
    assert "\nseed = 0\n" in written
    folder.recipe.write_text(written.replace("\nseed = 0\n", "\n"))
    folder.begin(recipe, load_catalog(), [])
    assert folder.recipe.read_text() == written
    folder.recipe.write_text(written.replace("\nseed = 0\n", "\nseed = 1\n"))
    with pytest.raises(ValueError, match=r"train\.seed: 1 there, 0 here"):
        folder.begin(recipe, load_catalog(), [])
    folder.recipe.write_text(written.replace("\nseed = 0\n", "\ncompiled = false\n"))
    with pytest.raises(ValueError, match="cannot be read here"):
        folder.begin(recipe, load_catalog(), [])


def test_the_denoising_loss_goes_backward_once_for_all_objectives(monkeypatch):
    first = torch.ones(2, requires_grad=True) * 1.0
    second = 2 * first
    denoise = second.square().sum()
    terms = {"x": first.sum(), "y": second.sum(), "z": first.prod()}
    grad, asked = torch.autograd.grad, []

    def count(value, *more, **options):
        asked.append(value)
        return grad(value, *more, **options)

    monkeypatch.setattr(torch.autograd, "grad", count)
    found = gradient_ratios(
        Prediction(second, {1: first, 2: second}), denoise, terms, {"x": (1,), "y": (1, 2), "z": (1,)}
    )
    assert len(found) == 3 and sum(value is denoise for value in asked) == 1
