"""JSON Schema (draft 2020-12) of recipes, from the plugins that are installed.

Editors complete and check with it. A recipe that extends another may leave out anything, so what
is required stands in a second tree that holds only for recipes without `extends`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from genmem.host import KINDS, Catalog
from genmem.recipe.docstrings import attribute_docstrings, summary
from genmem.recipe.shapes import Shape, default_of, fields_of, key_of, members, shape_of
from genmem.recipe.structure import NAME, NONE
from genmem.recipe.tables import Images, Recipe
from genmem.recipe.values import IMAGES, make_converter

Schema = dict[str, Any]

PLAIN: Mapping[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", Path: "string"}
GONE: Schema = {"const": NONE}
EXTENDS: Schema = {"type": "string", "description": "A recipe beside this one, or a shipped one, to start from."}


def schema_of(catalog: Catalog) -> Schema:
    """The schema of recipe files."""
    recipe = _table(Recipe, catalog)
    recipe["properties"] = {"extends": EXTENDS, **recipe["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "genmem recipe",
        **recipe,
        "if": {"not": {"required": ["extends"]}},
        "then": _required(Recipe, catalog),
        "$defs": {
            _reference(component.kind, component.name): _keys(component.config, catalog)
            for component in catalog.components()
        },
    }


def _reference(kind: str, name: str) -> str:
    return f"{kind}.{name}"
