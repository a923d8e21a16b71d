"""The settings of a component as plain JSON, to be recorded and compared."""

from __future__ import annotations

import json
from typing import Any

import attrs

from genmem.data.format.manifest import Component
from genmem.recipe.tables import Seat


def describe_settings(config: Any) -> dict[str, Any]:
    """Every setting of an attrs config that two equal ones share, as JSON would give it back.

    A field with `eq=False` says where a thing lies or how fast it is made, and is left out; of one
    with a key, `eq=key`, the key is what counts.
    """
    values = attrs.asdict(config)
    for field in attrs.fields(type(config)):
        if not field.eq:
            del values[field.name]
        elif field.eq_key is not None:
            values[field.name] = field.eq_key(values[field.name])
    settings: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return settings


def describe_seat(seat: Seat[Any]) -> Component:
    """The component in a seat of the recipe."""
    return Component(seat.use, describe_settings(seat.config))
