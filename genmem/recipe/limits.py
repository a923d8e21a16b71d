"""Validators of the recipe's own tables."""

from __future__ import annotations

import re
from typing import Any

import attrs


def plain_name(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """A name that can be that of a folder, and of no other place.

    Raises:
        ValueError: It is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", value):
        raise ValueError(f"{attribute.name} must be letters, digits, '.', '_' and '-', got {value!r}")


def positive(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Above 0, or absent.

    Raises:
        ValueError: It is not.
    """
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} must be above 0, got {value}")


def not_negative(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """0 or more, or absent.

    Raises:
        ValueError: It is not.
    """
    if value is not None and not value >= 0:
        raise ValueError(f"{attribute.name} must be 0 or more, got {value}")


def share(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    """A share that leaves something: in [0, 1).

    Raises:
        ValueError: It is not.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{attribute.name} must be in [0, 1), got {value}")
