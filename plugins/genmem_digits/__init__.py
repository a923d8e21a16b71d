"""Handwritten digits: 1,797 pictures of 8 × 8, carried inside the package."""

from __future__ import annotations

from typing import Any

import attrs

from genmem import hookimpl
from genmem.contracts import Source, SourceConfig, SourceExtent


def _some_digits(instance: object, attribute: attrs.Attribute[Any], value: tuple[int, ...] | None) -> None:
    if value is not None and (not value or list(value) != sorted(set(value) & set(range(10)))):
        raise ValueError(f"classes must be digits, each once, smallest first: [0, 1]; got {list(value)}")


@attrs.frozen(kw_only=True)
class DigitsConfig(SourceConfig):
    """The 1,797 handwritten digits of the UCI repository: 1,437 to train on, 360 held out."""

    classes: tuple[int, ...] | None = attrs.field(default=None, validator=_some_digits)
    """The digits taken, each in the split it has among all of them; all ten if absent."""

    def extent(self) -> SourceExtent:
        """Pictures of 8 × 8; how many there are of some of the digits is left open."""
        chosen = self.classes or range(10)
        return SourceExtent((8, 8, 1), len(chosen), 1437 if len(chosen) == 10 else 0)

    def build(self) -> Source:
        """The pictures, read from the package."""
        from genmem_digits.source import Digits

        return Digits(self.classes or tuple(range(10)))


@hookimpl
def genmem_sources() -> dict[str, type[SourceConfig]]:
    """The source this plugin registers."""
    return {"digits": DigitsConfig}
