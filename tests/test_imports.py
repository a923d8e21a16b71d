"""The torch line: listing, checking, schema and help import nothing heavy. Each in a fresh process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from distributions import ROOT, install, objective, python

from genmem.cli import COMMANDS

HEAVY = (
    "torch",
    "numpy",
    "torchvision",
    "torch_fidelity",
    "webdataset",
    "fvcore",
    "safetensors",
    "PIL",
    "scipy",
)

PROBE = f"""
import sys
{{code}}
found = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"imported: {{{{found}}}}" if found else 0)
"""

RUN = """
from click.testing import CliRunner
from genmem.cli import main
done = CliRunner().invoke(main, {arguments!r})
assert done.exit_code == 0, done.output
"""


def probe(code: str, path: Path | None = None) -> None:
    done = python("-c", PROBE.format(code=code), path=path)
    assert done.returncode == 0, done.stderr


def test_the_probe_notices() -> None:
    done = python("-c", PROBE.format(code="import numpy"))
    assert done.stderr == "imported: ['numpy']\n"


MODULES = [
    "genmem",
    "genmem.contracts",
    "genmem.host",
    "genmem.recipe",
    "genmem.recipe.schema",
    "genmem.cli",
    *(entry.module for entry in COMMANDS.values()),
]


def test_what_lies_above_the_line_imports_nothing_heavy() -> None:
    probe(f"import {', '.join(MODULES)}")


RECIPES = sorted(str(file) for file in (ROOT / "recipes").rglob("*.toml"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["plugins"],
        ["plugins", "--json"],
        ["check", *RECIPES],
        ["recipe", "list"],
        ["recipe", "show", "quickstart", "--train.seed=1"],
        ["recipe", "schema"],
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in COMMANDS),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands_that_compute_nothing_import_nothing_heavy(arguments: list[str]) -> None:
    probe(RUN.format(arguments=arguments))


def test_a_plugin_that_imports_torch_does_not_slow_the_others(tmp_path: Path) -> None:
    install(tmp_path, "heavy", "import torch\n" + objective("heavy"))
    probe(RUN.format(arguments=["plugins"]), path=tmp_path)


def test_every_plugin_is_light() -> None:
    probe(
        "from genmem.host import load_catalog\n"
        "assert {one.status for one in load_catalog().plugins} == {'active'}"
    )


def test_the_run_module_is_the_command_line() -> None:
    done = python("-m", "genmem", "--version")
    assert done.stdout.startswith("genmem, version "), done.stderr
    assert sys.executable
