"""The source of genmem and its plugins as syntax trees, for tests of what may import what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distributions import ROOT


class Imported(NamedTuple):
    """One import statement's module."""

    module: str
    line: int
    top: bool
    """Runs when the file is imported."""


@cache
def tree(file: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def files(folder: str) -> list[Path]:
    """Python files below a folder of the repository; there have to be some."""
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no Python files in {folder}"
    return found


def name_of(file: Path) -> str:
    """The file's path in the repository."""
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    """The module a file is, imported from its root."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "plugins" else parts
    return ".".join(part for part in parts if part != "__init__")


def imports(file: Path) -> Iterator[Imported]:
    """Every import of a file but those that only a type checker sees."""
    yield from _imports(tree(file).body, top=True)


def _imports(body: list[ast.stmt], *, top: bool) -> Iterator[Imported]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, node.lineno, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                Imported(name if _is_module(name) else node.module, node.lineno, top) for name in names
            )
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for _, value in ast.iter_fields(node):
                if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                    yield from _imports(value, top=inner)


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def strings(file: Path) -> Iterator[tuple[int, str]]:
    """Every string constant of a file, docstrings and parts of f-strings included."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
