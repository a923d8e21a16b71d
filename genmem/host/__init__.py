"""The plugin host: find plugins, load them, and say by kind and name what they offer. No torch."""

from genmem.host.catalog import Catalog, is_strict, load_catalog
from genmem.host.errors import ClashingComponent, PluginError, UnknownComponent, did_you_mean
from genmem.host.kinds import KINDS, Kind
from genmem.host.plugin import Component, Loaded, Plugin

__all__ = [
    "KINDS",
    "Catalog",
    "ClashingComponent",
    "Component",
    "Kind",
    "Loaded",
    "Plugin",
    "PluginError",
    "UnknownComponent",
    "did_you_mean",
    "is_strict",
    "load_catalog",
]
