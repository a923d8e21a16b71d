"""What can go wrong with plugins, told so that the way out is in the message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PluginError(Exception):
    """A plugin cannot be used."""


class UnknownComponent(PluginError, LookupError):
    """No active plugin offers the component a recipe names."""


class ClashingComponent(PluginError, LookupError):
    """Two plugins offer the component a recipe names."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ ", did you mean 'x'?", or nothing where nothing is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
