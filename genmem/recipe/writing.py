"""A recipe back to TOML: everything written out, so that the file says all there is to know."""

from __future__ import annotations

from typing import Any

import attrs
import tomli_w

from genmem.recipe.shapes import default_of, fields_of, key_of, shape_of
from genmem.recipe.structure import NONE
from genmem.recipe.tables import Recipe, Seat
from genmem.recipe.values import make_converter


def dump(recipe: Recipe) -> str:
    """TOML of the resolved recipe, every default written: `loads(dump(r), r.name) == r`.

    None is left out where it is the default, and "none" elsewhere. Un-packaged plugins are
    written with their full paths.
    """
    return tomli_w.dumps(_table(recipe))


def _table(instance: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field in fields_of(type(instance)):
        value = getattr(instance, field.name)
        if isinstance(value, Seat) and shape_of(field).how == "inline":
            table = {"use": value.use, **table, **_table(value.config)}
        elif value != default_of(field) or not (value is None or value == {}):
            table[key_of(field)] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Seat):
        return {"use": value.use, **_table(value.config)}
    if value is None:
        return NONE
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return _table(value) if attrs.has(type(value)) else make_converter().unstructure(value)
