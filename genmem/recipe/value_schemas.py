"""JSON Schema of single values: the same types, and the same strictness, as `genmem.recipe.values`."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from genmem.recipe.shapes import members
from genmem.recipe.structure import NONE
from genmem.recipe.tables import Images
from genmem.recipe.values import IMAGES, make_converter

Schema = dict[str, Any]

GONE: Schema = {"const": NONE}

PLAIN: Mapping[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    Path: {"type": "string"},
    type(None): GONE,
    Images: {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": f"^{IMAGES.pattern}$"}]},
}


def value_schema(of: Any) -> Schema:
    """The schema of a type; anything goes for one that is not known."""
    if of in PLAIN:
        return PLAIN[of]
    if len(members(of)) > 1:
        return {"anyOf": [value_schema(member) for member in members(of)]}
    origin, arguments = typing.get_origin(of) or of, typing.get_args(of)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments and arguments[1:] != (...,):
        each = [value_schema(argument) for argument in arguments]
        return {"type": "array", "prefixItems": each, "items": False, "minItems": len(each)}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": value_schema(arguments[0]) if arguments else True}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _entry_schema(arguments[1]) if arguments else True}
    return {}


def _entry_schema(of: Any) -> Schema:
    """Of one entry of a mapping; a number may be taken away."""
    return {"anyOf": [value_schema(of), GONE]} if of in (int, float) else value_schema(of)


def default_schema(default: Any) -> Schema:
    """{"default": …} of a plain value; nothing for tables and None."""
    if default in (attrs.NOTHING, None) or attrs.has(type(default)) or isinstance(default, Mapping):
        return {}
    return {"default": make_converter().unstructure(default)}
