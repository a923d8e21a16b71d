"""The docs: every hook with its signature, every example run."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli
from click.testing import CliRunner
from distributions import ROOT, genmem_command, pip_install, python
from fakes import plugin

from genmem.cli import COMMANDS, main
from genmem.host import hookspecs
from genmem.host.kinds import COMMANDS_HOOK, KINDS
from genmem.host.offers import inspect_plugin
from genmem.recipe import loads
from genmem.recipe.tables import Recipe

HOOKS = [name for name in vars(hookspecs) if name.startswith("genmem_")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Code blocks of a page in one language."""
    return [body for found, body in BLOCK.findall(text_of(name)) if found == language]


def section(hook: str) -> str:
    """What hooks.md says of a hook."""
    _, _, rest = text_of("hooks.md").partition(f"\n## {hook}\n")
    return rest.partition("\n## ")[0]


def example(hook: str) -> str:
    """The example in the hook's docstring."""
    said = inspect.getdoc(getattr(hookspecs, hook)) or ""
    return textwrap.dedent(said.partition("Example:\n")[2])


def offered(code: str) -> dict[str, Any]:
    """What a module with this code defines."""
    import attrs

    from genmem import hookimpl

    names: dict[str, Any] = {"attrs": attrs, "hookimpl": hookimpl, "__name__": __name__}
    exec(code, names)
    return names


def test_there_is_a_hook_for_every_kind() -> None:
    assert sorted(HOOKS) == sorted([kind.hook for kind in KINDS.values()] + [COMMANDS_HOOK])


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook: str) -> None:
    signature = inspect.signature(getattr(hookspecs, hook))
    assert not signature.parameters
    assert f"```\n{hook}() -> {signature.return_annotation}\n```\n" in section(hook)


def test_no_hook_is_documented_that_is_not_there() -> None:
    documented = re.findall(r"^## (genmem_\w+)$", text_of("hooks.md"), re.MULTILINE)
    assert documented == [*(kind.hook for kind in KINDS.values()), COMMANDS_HOOK]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_is_a_plugin(hook: str) -> None:
    (code,) = [body for language, body in BLOCK.findall(section(hook)) if language == "python"]
    for source in (example(hook), code):
        names = offered(source)
        loaded = inspect_plugin(plugin(), SimpleNamespace(**{hook: names[hook]}))
        assert len(loaded.components) + len(loaded.commands) == 1
    classes = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    in_docstring = [
        node for node in ast.parse(example(hook)).body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    assert [ast.dump(node) for node in classes] == [ast.dump(node) for node in in_docstring]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_hook_says_which_class_to_subclass(kind: Any) -> None:
    assert f"`{kind.contract.__name__}`" in section(kind.hook)


def test_every_table_is_documented() -> None:
    import attrs

    said = text_of("recipes.md")
    for field in attrs.fields(Recipe):
        assert f"`[{field.name}" in said or f"`{field.name}`" in said


@pytest.mark.parametrize("page", ["recipes.md", "writing-a-plugin.md", "seeing.md"])
def test_toml_is_toml_and_recipes_are_right(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(named_blocks()["mine.py"])
    found = blocks(page, "toml")
    assert found
    for text in found:
        if "extends" in tomli.loads(text) and 'use = "calm"' not in text:
            loads(text, "example")


def test_python_of_recipes_md_runs() -> None:
    (code,) = blocks("recipes.md", "python")
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "images = 20000\n" in done.stdout


COMMAND_LINE = re.compile(r"^(?:GENMEM_\w+=\w+ )?genmem (.*?)(?:   .*)?$", re.MULTILINE)


@pytest.mark.parametrize("page", ["recipes.md", "writing-a-plugin.md"])
def test_commands_in_the_docs_are_commands(page: str) -> None:
    lines = [line for text in blocks(page, "") for line in COMMAND_LINE.findall(text)]
    assert lines
    for line in lines:
        name, *rest = shlex.split(line)
        assert name in COMMANDS
        done = CliRunner().invoke(
            main, [name, *[word for word in rest if word in ("show", "list", "copy")], "--help"]
        )
        assert done.exit_code == 0, line


def named_blocks() -> dict[str, str]:
    """{file: text} of the blocks of writing-a-plugin.md that begin with a file's name."""
    found = {}
    for _, body in BLOCK.findall(text_of("writing-a-plugin.md")):
        if name := re.match(r"# ([\w.]+\.(?:py|toml))\n", body):
            found[name[1]] = body
    return found


def test_the_plugin_of_the_docs_works(tmp_path: Path) -> None:
    package = tmp_path / "calm"
    package.mkdir()
    for name, text in named_blocks().items():
        (package / name).write_text(text)
    assert len(named_blocks()["genmem_calm.py"].splitlines()) <= 21
    pip_install(package, tmp_path / "site")
    assert not (tmp_path / "site" / "test_calm.py").exists()
    (line,) = [
        line
        for line in genmem_command("plugins", path=tmp_path / "site").stdout.splitlines()
        if "genmem-calm" in line
    ]
    assert line.split() in [
        text.split() for text in blocks("writing-a-plugin.md", "") for text in text.splitlines()
    ]
    checked = genmem_command("check", "calm.toml", path=tmp_path / "site", folder=package)
    assert checked.returncode == 0, checked.stderr
    tested = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_calm.py", path=tmp_path / "site", folder=package
    )
    assert "1 passed" in tested.stdout, tested.stdout


CHECK_MINE = """
from pathlib import Path
from genmem.host import load_catalog
from genmem.testing import check_objective
check_objective(load_catalog([Path("mine.py")]).find("objective", "mine").config(tap=2))
"""


def test_the_single_file_of_the_docs_works(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(named_blocks()["mine.py"])
    done = python("-c", CHECK_MINE, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "calm.toml").write_text(
        'extends = "quickstart"\n[objective.calm]\nuse = "mine"\ntap=1\nweight=1.0'
    )
    (line,) = re.findall(
        r"^genmem train (.*--plugin mine.py.*)$", text_of("writing-a-plugin.md"), re.MULTILINE
    )
    checked = genmem_command("check", *shlex.split(line), folder=tmp_path)
    assert checked.stdout == "calm.toml: ok\n", checked.stderr
