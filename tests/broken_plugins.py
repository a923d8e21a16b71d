"""Plugins that break a rule: {distribution: (source, cause)}; `{file}` stands for the module."""

from __future__ import annotations

from distributions import objective

HEAD = "import attrs\nfrom genmem import hookimpl\nfrom genmem.contracts import ObjectiveConfig\n"

BROKEN = {
    "raises": ("raise OSError('no such device')", "OSError: no such device"),
    "lacks-a-module": ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
    "is-no-python": ("def", "SyntaxError: invalid syntax (is_no_python.py, line 1)"),
    "misspells": (
        HEAD + "@hookimpl\ndef genmem_objectivs():\n    return {}\n",
        "no hook is called 'genmem_objectivs', did you mean 'genmem_objectives'?",
    ),
    "is-empty": ("", "contributes nothing"),
    "returns-nothing": (
        HEAD + "@hookimpl\ndef genmem_objectives():\n    return {}\n",
        "contributes nothing: genmem_objectives lacks @genmem.hookimpl, or returns nothing",
    ),
    "forgets-the-marker": (
        objective("x").replace("@hookimpl\n", ""),
        "contributes nothing: genmem_objectives lacks @genmem.hookimpl, or returns nothing",
    ),
    "yields": (
        HEAD + "@hookimpl\ndef genmem_objectives():\n    yield 'x', ObjectiveConfig\n",
        "genmem_objectives must return a mapping from names, got generator",
    ),
    "returns-a-list": (
        HEAD + "@hookimpl\ndef genmem_objectives():\n    return [ObjectiveConfig]\n",
        "genmem_objectives must return a mapping from names, got list",
    ),
    "returns-an-object": (
        HEAD + "@hookimpl\ndef genmem_objectives():\n    return {'x': 3}\n",
        "genmem_objectives: 'x' must be a subclass of genmem.contracts.ObjectiveConfig, got int",
    ),
    "takes-the-wrong-kind": (
        objective("x").replace("genmem_objectives", "genmem_samplers"),
        "genmem_samplers: 'x' must be a subclass of genmem.contracts.SamplerConfig, got Config",
    ),
    "has-a-bad-name": (
        objective("a b"),
        "genmem_objectives: 'a b' is no name; letters, digits and _ . : / - make one",
    ),
    "forgets-attrs": (
        objective("x").replace("@attrs.frozen(kw_only=True)\n", ""),
        "genmem_objectives: 'x' needs @attrs.frozen(kw_only=True) above class Config",
    ),
    "forgets-build": (
        objective("x").replace("build", "built"),
        "genmem_objectives: 'x' does not implement build of ObjectiveConfig",
    ),
    "takes-a-core-key": (
        objective("x").replace("    def build", "    weight: float = 1.0\n\n    def build"),
        "genmem_objectives: 'x' has a field 'weight', a key that belongs to core in this table",
    ),
    "has-no-type": (
        objective("x").replace("    def build", "    width = attrs.field(default=1)\n\n    def build"),
        "genmem_objectives: 'x' has a field 'width' without a type, so nothing can be checked",
    ),
    "takes-arguments": (
        HEAD + "@hookimpl\ndef genmem_objectives(more):\n    return {}\n",
        "declared in the hookimpl but can not be found in the hookspec",
    ),
    "takes-a-command": (
        "import click\nfrom genmem import hookimpl\n@click.command()\ndef train(): ...\n"
        "@hookimpl\ndef genmem_commands():\n    return {'train': train}\n",
        "genmem_commands: 'train' is a command of genmem itself",
    ),
    "has-no-command": (
        "from genmem import hookimpl\n@hookimpl\ndef genmem_commands():\n    return {'x': print}\n",
        "genmem_commands: 'x' must be a click.Command, got builtin_function_or_method",
    ),
    "hides-types": (
        "from __future__ import annotations\n"
        + objective("x").replace("    def build", "    path: Tensor = None\n\n    def build"),
        "genmem_objectives: 'x' has annotations in class Config that cannot be resolved "
        "(name 'Tensor' is not defined)",
    ),
    "imports-torch": ("x = 1\nimport torch\n", "imports torch when it is imported ({file}:2)"),
    "imports-torch-below": ("import genmem.paths\n", "imports torch when it is imported ({file}:1)"),
    "hides-torch": (
        "try:\n    import torch\nexcept ImportError:\n    pass\n" + objective("x"),
        "imports torch when it is imported ({file}:2)",
    ),
}
