"""No objective costs anything at inference: the weights that sample are the plain backbone's, and so is
what they give."""

from __future__ import annotations

import pytest
import tomli_w
import torch
from running import ROOT, trainer_of
from test_contracts import CATALOG, SETTINGS

from genmem.contracts import Conditioning
from genmem.recipe import loads
from genmem.training import checkpoints
from genmem.training.trainer import Trainer

LABEL = ROOT / "recipes" / "digits" / "label.toml"
SMALL = ("--backbone.width=32", "--train.batch=32", "--train.images=64", "--evaluate.every=64")
ENCODER = {"encoder": {"patches": {"use": "patch-pca", "context": 2}}}
QUEUE = {"use": "queue", "rows": 64, "width": 8}


def tables_of(component) -> dict:
    """The objective in a recipe, with the memories it asks for."""
    settings = SETTINGS[("objective", component.name)][0]
    if component.name == "direction":
        settings = {"over": "sample"}  # the digits have one channel
    needs = component.config(**settings).needs
    tables = {"objective": {"one": {"use": component.name, "weight": 0.1, **settings}}}
    return tables | ({"memory": dict.fromkeys(needs, QUEUE)} if needs else {})


def trainer_for(data, **tables) -> Trainer:
    # A set of its own: it has tokens.
    text = f'extends = "{LABEL}"\n' + tomli_w.dumps({"data": ENCODER, **tables})
    return trainer_of(loads(text, "small", (f'--data.path="{data}/tokens"', *SMALL)))


def output_of(backbone: torch.nn.Module, taps: tuple[int, ...]) -> torch.Tensor:
    """With weights that depend on their sizes alone."""
    generator = torch.Generator()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator.manual_seed(parameter.numel()))
    x, t = torch.randn(6, 1, 8, 8, generator=generator), torch.rand(6, generator=generator)
    return backbone(x, t, Conditioning(label_B=torch.arange(6)), taps=taps).output


@pytest.mark.parametrize("component", CATALOG.components("objective"), ids=lambda component: component.name)
def test_an_objective_leaves_no_trace(component, data, tmp_path):
    trainer, plain = trainer_for(data, **tables_of(component)), trainer_for(data).assembly.backbone
    trainer.step()
    path = checkpoints.save(tmp_path, 32, trainer.checkpoint(), keep=1)
    for name in ("ema", "online"):
        shapes = {key: value.shape for key, value in checkpoints.weights(path, name).items()}
        assert shapes == {key: value.shape for key, value in plain.state_dict().items()}
    found, expected = (
        output_of(trainer.assembly.backbone, trainer.assembly.taps["one"]),
        output_of(plain, ()),
    )
    assert expected.std() > 0.1 and torch.equal(found, expected)
