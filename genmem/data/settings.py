"""The settings of a component as plain JSON, to be recorded and compared."""

from __future__ import annotations

import json
from typing import Any

import attrs

from genmem.data.manifest import Component
from genmem.recipe.tables import Seat


def describe_settings(config: Any) -> dict[str, Any]:
    """Every setting of an attrs config, as JSON would give it back."""
    settings: dict[str, Any] = json.loads(json.dumps(attrs.asdict(config), default=str))
    return settings


def describe_seat(seat: Seat[Any]) -> Component:
    """The component in a seat of the recipe."""
    return Component(seat.use, describe_settings(seat.config))
