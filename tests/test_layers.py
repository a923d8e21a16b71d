"""Layers, over the syntax tree: who may import whom, and what genmem may not know.

cli > recipe > host > contracts          no torch when imported
------------------------------------     the torch line
everything else of genmem
plugins: genmem's public modules only
"""

from __future__ import annotations

import ast
import sys

import pytest
import tomli
from distributions import ROOT
from sources import files, imports, module_of, name_of, strings, tree

from genmem.host import load_catalog

ABOVE = ("contracts", "host", "recipe", "cli")
"""Folders above the torch line, each of which may import itself and those before it."""

LIBRARIES = {"attrs", "cattrs", "click", "pluggy", "tomli", "tomli_w"}
"""What the layers above the line import at once; rich, for one, is imported where it prints."""

PUBLIC = {
    "genmem": "hookimpl",
    "genmem.contracts": "what a component takes and gives",
    "genmem.draws": "random numbers",
    "genmem.paths": "affine paths",
    "genmem.attention": "log-sum-exp over many rows",
    "genmem.collectives": "gathering over ranks",
    "genmem.extras": "libraries that an extra brings",
    "genmem.weights": "published weights",
    "genmem.devices": "the device a benchmark runs on",
    "genmem.host": "components of others, found by name",
    "genmem.recipe": "a command that takes a recipe",
    "genmem.recipe.data_table": "a command on the folder of a set",
    "genmem.cli.options": "a command that takes a recipe",
    "genmem.data.arrays": "a benchmark of reading",
    "genmem.data.dataset": "a command on the folder of a set",
    "genmem.data.files": "a command that records what it read",
    "genmem.data.picture_files": "a command that takes pictures",
    "genmem.data.states": "a command that runs an encoder on pictures",
    "genmem.data.settings": "a command that runs an encoder on a set",
    "genmem.data.streaming.shards": "a benchmark of reading, a command on shards",
    "genmem.data.streaming.stream": "a benchmark of reading",
    "genmem.data.preparation": "a command that prepares a recipe's data",
    "genmem.data.format.npy": "a source of arrays",
    "genmem.data.format.tar": "a source of pictures in tars",
    "genmem.exchange.files": "a command that imports a file",
    "genmem.scoring.fidelity": "a network of torch-fidelity's",
    "genmem.sampling.evaluation": "a benchmark of sampling",
    "genmem.building": "a benchmark of a training step",
    "genmem.profiling.step": "a benchmark of a training step",
    "genmem.training.launch": "a command that several processes share",
    "genmem.training.progress": "a command that takes a while",
    "genmem.training.assembly": "a benchmark of a training step",
    "genmem.training.compilation": "a benchmark of a training step",
    "genmem.training.guard": "a benchmark of a training step",
    "genmem.training.optimization": "a benchmark of a training step",
    "genmem.training.trainer": "a benchmark of a training step",
    "genmem.training.writer": "a benchmark of a training step",
    "genmem.pictures": "a command that shows pictures",
    "genmem.testing": "contract checks",
}
"""What a plugin may import of genmem, and for what."""

PLUGINS = sorted(folder.name for folder in (ROOT / "plugins").glob("genmem_*"))


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ABOVE else "below"


@pytest.mark.parametrize("layer", ABOVE)
def test_a_layer_above_the_line_imports_itself_and_those_before_it(layer: str) -> None:
    allowed = ABOVE[: ABOVE.index(layer) + 1]
    for file in files(f"genmem/{layer}"):
        for found in imports(file):
            if found.module == "genmem" or not found.top:
                continue
            root = found.module.split(".")[0]
            place = f"{name_of(file)}:{found.line} imports {found.module}"
            if root == "genmem":
                assert layer_of(found.module) in allowed, place
            else:
                assert root in LIBRARIES or root in sys.stdlib_module_names, place


def test_the_package_itself_and_contracts_stand_alone() -> None:
    for file in [ROOT / "genmem" / "__init__.py", *files("genmem/contracts")]:
        assert {one.module.split(".")[0] for one in imports(file) if one.top} <= {
            "genmem",
            "attrs",
            "pluggy",
            *sys.stdlib_module_names,
        }, name_of(file)


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    for file in files("genmem"):
        if file.parent.name != "cli" and file.name != "__main__.py":
            assert not [one for one in imports(file) if one.module.startswith("genmem.cli")], name_of(file)


def test_genmem_imports_no_plugin() -> None:
    for file in files("genmem"):
        assert not [one for one in imports(file) if one.module.split(".")[0] in PLUGINS], name_of(file)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_public_modules_and_no_sibling(plugin: str) -> None:
    for file in files(f"plugins/{plugin}"):
        for found in imports(file):
            root = found.module.split(".")[0]
            if root.startswith("genmem") and root != plugin:
                assert found.module in PUBLIC, f"{name_of(file)}:{found.line} imports {found.module}"


def test_every_public_module_is_used_or_promised() -> None:
    promised = {"genmem.testing"}
    used = {one.module for file in files("plugins") for one in imports(file)}
    assert set(PUBLIC) - promised <= used


def test_plugins_are_those_of_pyproject_and_those_installed() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["genmem"]
    assert sorted(points.values()) == PLUGINS
    ours = {
        plugin.name: plugin.module for plugin in load_catalog().plugins if plugin.distribution == "genmem"
    }
    assert ours == points, "the installed entry points are others: run the README's install command again"


EXCEPTIONS = {
    ("genmem/host/kinds.py", "genmem_encoders"): "the hook of this name; a plugin's folder has the same",
    ("genmem/host/hookspecs/data.py", "genmem_encoders"): "that hook's own example",
    ("genmem/host/kinds.py", "genmem_sources"): "the hook of this name; a plugin's folder has the same",
    ("genmem/host/hookspecs/data.py", "genmem_sources"): "that hook's own example",
}
"""Strings of the core that name a component or a plugin, and why they may."""


def test_genmem_names_no_plugin_and_no_component() -> None:
    catalog = load_catalog()
    names = {component.name for component in catalog.components()} | set(catalog.commands())
    assert names
    found: set[tuple[str, str]] = set()
    for file in files("genmem"):
        for line, text in strings(file):
            for package in [package for package in PLUGINS if package in text]:
                found.add((name_of(file), package))
            if text in names:
                found.add((f"{name_of(file)}:{line}", text))
    assert found == set(EXCEPTIONS)


def length_of(function: ast.FunctionDef) -> int:
    """Lines of a function, its docstring left out."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    said = docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0
    return (function.end_lineno or 0) - function.lineno + 1 - said


LONGEST = {("genmem.training.loop", "train"): 120}
"""The training loop is one readable function."""


@pytest.mark.parametrize("folder", ["genmem", "plugins"])
def test_files_and_functions_are_short(folder: str) -> None:
    long = []
    for file in files(folder):
        lines = len(file.read_text().splitlines())
        long += [f"{name_of(file)}: {lines} lines"] if lines > 250 else []
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef):
                limit = LONGEST.get((module_of(file), node.name), 40)
                long += [f"{name_of(file)}: {node.name}"] if length_of(node) > limit else []
    assert not long


def test_no_file_has_a_name_that_says_nothing() -> None:
    silent = {"utils", "util", "base", "manager", "helpers", "helper", "common", "misc"}
    assert not [
        name_of(file) for folder in ("genmem", "plugins") for file in files(folder) if file.stem in silent
    ]
