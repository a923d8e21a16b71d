"""Seats: tables of a recipe with the reserved key `use`, where components sit.

Every other key belongs to the component named there. `kind` says which registry kind may sit in it.
"""

from __future__ import annotations

from typing import Any, Generic, NewType, TypeVar

import attrs

C = TypeVar("C")

Images = NewType("Images", int)
"""A number of images: an integer, or text with a suffix: "50Ki", "1.5M", "50Mi"."""


@attrs.frozen
class Seat(Generic[C]):
    """A component chosen by a recipe."""

    use: str
    """Its registered name."""

    config: C
    """Its settings."""


def seat(kind: str, *, optional: bool = False) -> Any:
    """A field that holds one component of this kind."""
    metadata = {"seat": kind}
    return attrs.field(default=None, metadata=metadata) if optional else attrs.field(metadata=metadata)


def seats(kind: str) -> Any:
    """A field that holds named tables, one component of this kind in each."""
    return attrs.field(factory=dict, metadata={"seats": kind})


def tables(of: type) -> Any:
    """A field that holds named tables of one class."""
    return attrs.field(factory=dict, metadata={"tables": of})
