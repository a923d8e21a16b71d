"""What a field of a table holds, read from its metadata and its type.

The one place that knows how `genmem.recipe.tables` writes down seats, named tables and inlined
components; reading, overriding, dumping and the schema all walk a recipe by it.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

import attrs

How = Literal["value", "table", "seat", "inline", "seats", "tables"]


@attrs.frozen
class Shape:
    """What one field holds."""

    how: How
    """value; a table of a class; a component's table; the same within this table; named ones."""

    of: Any
    """The type of a value, the class of a table, the kind of a seat."""

    optional: bool
    """Whether it may be None, which a recipe writes as "none"."""

    required: bool
    """Whether a recipe has to have it."""


def fields_of(cls: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    """Fields a recipe can set, their annotations resolved to types."""
    attrs.resolve_types(cls)
    return tuple(field for field in attrs.fields(cls) if field.init)


def key_of(field: attrs.Attribute[Any]) -> str:
    """The field's key in a recipe."""
    return field.alias or field.name


def shape_of(field: attrs.Attribute[Any]) -> Shape:
    """What a field with resolved types holds."""
    optional = type(None) in members(field.type)
    required = field.default is attrs.NOTHING
    metadata = field.metadata
    if "seat" in metadata:
        how: How = "inline" if metadata.get("inline") else "seat"
        return Shape(how, metadata["seat"], optional, required)
    for how in ("seats", "tables"):
        if how in metadata:
            return Shape(how, metadata[how], optional, required)
    (inner, *others) = [member for member in members(field.type) if member is not type(None)]
    if not others and attrs.has(typing.get_origin(inner) or inner):
        return Shape("table", inner, optional, required)
    return Shape("value", field.type, optional, required)


def members(of: Any) -> tuple[Any, ...]:
    """Members of a union; the type itself where it is none."""
    if typing.get_origin(of) in (typing.Union, types.UnionType):
        return typing.get_args(of)
    return (of,)


def default_of(field: attrs.Attribute[Any]) -> Any:
    """The field's default value; `attrs.NOTHING` where it has none."""
    factory: Any = attrs.Factory
    default: Any = field.default
    if not isinstance(default, factory):
        return default
    return attrs.NOTHING if default.takes_self else default.factory()
