"""A new plugin package, written out: it installs, passes its own test, and is yours to change."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "genmem-$name"
version = "0.1.0"
description = "An objective for genmem."
requires-python = ">=3.11"
dependencies = ["genmem"]
optional-dependencies.test = ["pytest"]

# How genmem finds it: the plugin's name, and the module with its hooks.
[project.entry-points.genmem]
$name = "genmem_$module"
"""

README = """\
# genmem-$name

An objective for genmem: for now, the mean p-th power of a hidden state.

    pip install -e '.[test]'
    genmem plugins             # lists it
    pytest                     # holds it to genmem's contract

Then, in a recipe:

    [objective.$module]
    use = "$name"
    tap_fraction = 0.5
    power = 2.0
    weight = 0.01

`genmem_$module/__init__.py` has the settings and must not import torch; `loss.py` has the loss.
"""

CONFIG = '''\
"""Settings and hooks. Torch is imported in `build`, so that listing plugins stays quick."""

import attrs
from genmem import hookimpl
from genmem.contracts import Facts, TappedConfig


@attrs.frozen(kw_only=True)
class ${title}Config(TappedConfig):
    """Mean p-th power of a hidden state."""

    power: float = attrs.field(default=2.0, validator=attrs.validators.ge(1.0))
    """p."""

    def build(self, facts: Facts):
        from genmem_$module.loss import $title

        (tap,) = self.taps(len(facts.tap_widths))
        return $title(tap, self.power)


@hookimpl
def genmem_objectives():
    return {"$name": ${title}Config}
'''

LOSS = '''\
"""The loss.

Shapes: B batch, L tokens, D width.
"""

from genmem.contracts import Objective, Step
from torch import nn


class $title(nn.Module):
    """mean |h|^p over the hidden state of one tap."""

    def __init__(self, tap: int, power: float) -> None:
        super().__init__()
        self.tap, self.power = tap, power

    def forward(self, step: Step) -> Objective:
        hidden_BLD = step.prediction.hidden[self.tap].float()
        value = hidden_BLD.abs().pow(self.power).mean()
        return Objective(value, {"largest": hidden_BLD.detach().abs().max()})
'''

TEST = '''\
"""The objective keeps genmem's contract, and its value is what the formula says."""

import torch
from genmem.testing import check_objective, check_plugin, example_step
from genmem_$module import ${title}Config
from genmem_$module.loss import $title


def test_contract():
    check_objective(${title}Config(tap=2))


def test_installed():
    check_plugin("$name")


def test_value():
    step = example_step(${title}Config(tap=2))
    hidden = step.prediction.hidden[2]
    expected = (hidden.double() ** 2).mean()
    torch.testing.assert_close(${title}(2, 2.0)(step).value.double(), expected)
'''

FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "genmem_$module/__init__.py": CONFIG,
    "genmem_$module/loss.py": LOSS,
    "tests/test_$module.py": TEST,
}


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package into a new folder, or an empty one; returns its files.

    Args:
        name: What recipes will say; the package is genmem-NAME.
        folder: Where to.

    Raises:
        ValueError: The name is none that a package can have.
        FileExistsError: There is something in the folder already.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"a plugin's name is made of a-z, 0-9 and single dashes, got {name!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"there is something in {folder} already, and nothing is overwritten")
    title = "".join(part.capitalize() for part in name.split("-"))
    words = {"name": name, "module": name.replace("-", "_"), "title": title}
    written = []
    for path, text in FILES.items():
        file = folder / Template(path).substitute(words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(file)
    return written
