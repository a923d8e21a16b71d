"""Handwritten digits: 1,797 pictures of 8 × 8, carried inside the package."""

from __future__ import annotations

import attrs

from genmem import hookimpl
from genmem.contracts import Source, SourceConfig


@attrs.frozen(kw_only=True)
class DigitsConfig(SourceConfig):
    """The 1,797 handwritten digits of the UCI repository: 1,437 to train on, 360 held out."""

    def build(self) -> Source:
        """The pictures, read from the package."""
        from genmem_digits.source import Digits

        return Digits()


@hookimpl
def genmem_sources() -> dict[str, type[SourceConfig]]:
    """The source this plugin registers."""
    return {"digits": DigitsConfig}
