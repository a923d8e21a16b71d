"""Docstrings of attributes: the text under a field, which Python itself forgets."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any


def attribute_docstrings(cls: type[Any]) -> dict[str, str]:
    """{attribute: the string under it}, parents included; empty where there is no source."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        found |= _own(parent)
    return found


def _own(cls: type[Any]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # built in, or made at run time
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = _string(following)
            if text:
                found[statement.target.id] = inspect.cleandoc(text)
    return found


def _string(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else ""
    return ""
