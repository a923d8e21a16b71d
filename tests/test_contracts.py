"""Our own components pass through the checks a plugin author runs, and the checks can fail."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from running import small_recipe, trainer_of

from genmem import testing
from genmem.contracts import (
    Coefficients,
    EncoderConfig,
    Facts,
    Objective,
    ObjectiveConfig,
    SamplerConfig,
    TimeRange,
)
from genmem.draws import Draws
from genmem.host import load_catalog
from genmem.paths import AffinePath
from genmem.testing.objective import StraightPath

CATALOG = load_catalog()

# Settings for components that have no defaults, or whose defaults are too large for a test.
SETTINGS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("backbone", "sit"): [
        {"depth": 2, "width": 16, "heads": 2},
        {"depth": 2, "width": 16, "heads": 2, "memory_projection": "mlp", "init": "xavier"},
        {"depth": 2, "width": 16, "heads": 2, "span": True, "attention": "math", "learn_sigma": True},
        {"depth": 2, "width": 16, "heads": 2, "checkpoint": True, "patch": 4},
    ],
    ("backbone", "dit"): [{"depth": 2, "width": 32, "heads": 4}],
    ("backbone", "lightningdit"): [
        {"depth": 2, "width": 32, "heads": 4},
        {"depth": 2, "width": 32, "heads": 4, "patch": 2, "span": True, "weights_time": "data1"},
    ],
    ("interpolant", "linear"): [
        {},
        {"time": "logit-normal"},
        {"time": "shifted", "time_shift": 0.3},
        *({"target": target, "weight": "min-snr"} for target in ("noise", "score", "x0")),
    ],
    ("interpolant", "cosine"): [{}, {"target": "noise", "weight": "likelihood"}],
    ("interpolant", "vp"): [{}, {"target": "score"}, {"target": "noise", "weight": "velocity"}],
    ("interpolant", "ddpm"): [{}, {"learn_variance": False}, {"steps": 200, "beta_max": 0.1}],
    ("interpolant", "meanflow"): [
        {},
        {"power": 0.0, "two_times": 1.0},
        {"omega": 0.2, "kappa": 0.5, "interval": (0.2, 0.8)},
    ],
    ("objective", "dispersive"): [
        {"preset": "paper", "tap": 2},
        {"preset": "torch", "tap_fraction": 0.5},
        {"preset": "paper", "group": "global", "tap": 1},
        {"form": "infonce-cos", "tap": (1, 3), "positive": "independent"},
        {"form": "hinge", "margin": 4.0, "tap": 1},
        {"form": "covariance", "pool": "mean", "group": "global", "tap": "all"},
        {"form": "covariance", "positive": "restricted", "tap": 1},
    ],
    ("objective", "repulsor"): [
        {"memory": "negatives", "tap": 2, "min_fill": 1, **settings}
        for settings in (
            {"head": "mlp"},
            {"head": "linear"},
            {"head": "jl"},
            {"metric": "l2", "reduction": "global"},
            {"pool": "flatten-jl", "head": "jl"},
            {"keys": "ema", "positive": "ema"},
            {"hide_class": True, "window": 0.5},
        )
    ],
    ("objective", "repa"): [
        {"encoders": ["patches"], "tap": 1},
        {"encoders": ["patches"], "tap_fraction": 0.5, "projector": "conv", "structure": 0.5},
    ],
    ("objective", "layersync"): [{"tap": 1, "target": 3}],
    ("objective", "contrastive-flow"): [{}, {"group": "global", "other_class": True}],
    ("objective", "direction"): [{}, {"over": "sample"}],
    ("memory", "queue"): [
        {"rows": 64, "width": 8},
        {"rows": 64, "width": 8, "dtype": "fp32"},
        {"rows": 64, "width": 8, "max_age": 32, "shard": True},
    ],
    ("sampler", "euler"): [{"steps": 25}],
    ("sampler", "heun"): [{"steps": 10}],
    ("sampler", "rk4"): [{"steps": 5}],
    ("sampler", "dopri5"): [{}, {"rtol": 1e-6}],
    ("sampler", "sde-euler"): [{"steps": 100}, {"steps": 200, "diffusion": "sbdm", "last_step": "tweedie"}],
    ("sampler", "sde-heun"): [{"steps": 50}, {"steps": 50, "diffusion": "linear", "last_step_size": 0.004}],
    ("sampler", "ddpm"): [{"steps": 100}, {"steps": 100, "variance": "large"}],
    ("sampler", "ddim"): [{"steps": 50}],
    ("sampler", "meanflow"): [{}, {"steps": 2}, {"steps": 5, "shift": 0.5}],
    ("guidance", "cfg"): [
        {"scale": 1.0},
        {"scale": 3.0, "channels": 1},
        {"scale": 3.0, "interval": (0.2, 0.6)},
        {"scale": 3.0, "interval": (1.0, 0.0)},
    ],
    ("encoder", "pca"): [{"width": 8}],
    ("encoder", "patch-pca"): [{"width": 4}, {"width": 8, "patch": 4, "context": 2}],
    ("encoder", "random-conv"): [{}, {"tokens": True}],
}

ELSEWHERE = {
    ("memory", "svd-bank"),
    *(("tokenizer", name) for name in ("sd-vae", "va-vae", "dc-ae")),
    *(("encoder", name) for name in ("timm", "clip", "inception", "stored", "bert", "clip-text")),
    *(("source", name) for name in ("cifar10", "image-archive", "image-folder", "webdataset")),
    *(("source", name) for name in ("latent-safetensors", "repa-latents")),
}
"""Components that need files, checked where such files are made."""


def cases(kind: str) -> list[Any]:
    """Every registered component of a kind, with each of its settings."""
    return [
        pytest.param(component.config(**settings), id=f"{component.name}-{number}")
        for component in CATALOG.components(kind)
        if (kind, component.name) not in ELSEWHERE
        for number, settings in enumerate(SETTINGS.get((kind, component.name), [{}]))
    ]


@pytest.mark.parametrize("config", cases("backbone"))
def test_backbones(config):
    testing.check_backbone(config)


@pytest.mark.parametrize("config", cases("interpolant"))
def test_interpolants(config):
    testing.check_interpolant(config)


@pytest.mark.parametrize("config", cases("objective"))
def test_objectives(config):
    tokens = Draws(5, torch.arange(32)).normal("tokens", (4, 6))  # as many as the hidden states of the check
    testing.check_objective(config, features=dict.fromkeys(config.features, tokens))


@pytest.mark.parametrize("config", cases("memory"))
def test_memories(config):
    testing.check_memory(config.build(Facts(sample_shape=(1, 8, 8), output_channels=1, batch=8)))


def test_the_bank_that_the_quickstart_builds(data):
    testing.check_memory(trainer_of(small_recipe(data)).memories["bank"])


@pytest.mark.parametrize("config", cases("sampler"))
def test_samplers(config):
    testing.check_sampler(config)


@pytest.mark.parametrize("config", cases("guidance"))
def test_guidances(config):
    testing.check_guidance(config)


@pytest.mark.parametrize("config", cases("source"))
def test_sources(config):
    testing.check_source(config)


@pytest.mark.parametrize("config", cases("tokenizer"))
def test_tokenizers(config):
    testing.check_tokenizer(config, tolerance=0.0)


@pytest.mark.parametrize("config", cases("encoder"))
@pytest.mark.parametrize("channels", [1, 3])
def test_encoders(config, channels):
    testing.check_encoder(config, channels=channels)


@pytest.mark.parametrize("name", [plugin.name for plugin in CATALOG.plugins])
def test_plugins(name):
    testing.check_plugin(name)


# The checks themselves ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Faulty(ObjectiveConfig):
    """An objective that can be wrong in several ways."""

    fault: str

    def taps(self, depth: int) -> tuple[int, ...]:
        return (1,)

    def build(self, facts: Facts) -> torch.nn.Module:
        return FaultyLoss(self.fault)


class FaultyLoss(torch.nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, step, /):
        hidden = step.prediction.hidden[1]
        value = hidden.float().square().mean()
        return {
            "no gradient": Objective(value.detach().requires_grad_()),
            "half precision": Objective(hidden.square().mean()),
            "no scalar": Objective(hidden.float().square().mean(0)),
            "not finite": Objective(value, {"log": (value - value).log()}),
            "no Objective": value,
        }[self.fault]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no gradient", "no gradient reaches"),
        ("half precision", "must be fp32, got torch.bfloat16"),
        ("no scalar", "value must be a scalar"),
        ("not finite", "log is not finite"),
        ("no Objective", "must return an Objective, got Tensor"),
    ],
)
def test_a_faulty_objective_is_found(fault, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_objective(Faulty(fault=fault))


def test_a_faulty_path_is_found():
    class Bent(AffinePath):
        def coefficients(self, t, /):
            return Coefficients(1 - t, t**2, -torch.ones_like(t), torch.ones_like(t))

    with pytest.raises(AssertionError, match="d_sigma is not the derivative of sigma"):
        testing.check_interpolant(_Built(Bent()))


class _Built:
    def __init__(self, process):
        self.process = process

    def output_channels(self, channels):
        return channels

    def build(self):
        return self.process


def test_a_sampler_that_spends_more_than_it_announces_is_found():
    @attrs.frozen(kw_only=True)
    class Wasteful(SamplerConfig):
        """Calls twice."""

        @property
        def evaluations(self):
            return 1

        def build(self):
            def sampler(evaluate, x, draws, /):
                t = torch.ones(len(x))
                evaluate(x, t)
                return x - evaluate(x, t).velocity

            return sampler

    with pytest.raises(AssertionError, match="announced 1 evaluations, spent 2"):
        testing.check_sampler(Wasteful())


@pytest.mark.parametrize(
    ("fault", "message"),
    [("variance", "must stay as with condition"), ("batch", "must not depend on its batch mates")],
)
def test_a_faulty_guidance_is_found(fault, message):
    class Rule:
        def build(self):
            return self

        def __call__(self, output, x, t_B, cond, /):
            c = output(x, t_B, cond)
            u = output(x, t_B, cond._replace(drop_B=torch.ones(len(x), dtype=torch.bool)))
            guided = u + (2.0 if fault == "variance" else t_B.mean()) * (c - u)
            return guided if fault == "variance" else torch.cat([guided[:, :1], c[:, 1:]], 1)

    with pytest.raises(AssertionError, match=message):
        testing.check_guidance(Rule())


def test_a_range_of_times_outside_the_unit_interval_is_found():
    class Wide(StraightPath):
        def limits(self):
            return TimeRange(0.0, 1.5)

    with pytest.raises(AssertionError, match="limits must lie in 0 … 1"):
        testing.check_interpolant(_Built(Wide()))


def test_an_encoder_that_depends_on_batch_mates_is_found():
    @attrs.frozen(kw_only=True)
    class Normalising(EncoderConfig):
        """Subtracts the batch mean."""

        def build(self):
            return _Normalising()

    with pytest.raises(AssertionError, match="must not depend on its batch mates"):
        testing.check_encoder(Normalising())


class _Normalising:
    width = 768

    def fit(self, pictures):
        pass

    def encode(self, pictures):
        from genmem.contracts import Encoded

        flat = pictures.reshape(len(pictures), -1).astype("float32")
        return Encoded(flat - flat.mean(0))

    def state(self):
        return {}

    def load_state(self, state):
        pass


def test_a_memory_that_writes_before_commit_is_found():
    class Hasty(testing.ListMemory):
        def stage(self, rows_BE, tags):
            super().stage(rows_BE, tags)
            self.commit(torch.tensor(True))

    with pytest.raises(AssertionError, match="stage must change nothing before commit"):
        testing.check_memory(Hasty(torch.nn.functional.normalize(torch.randn(9, 4), dim=1)))
