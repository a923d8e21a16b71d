"""The catalog: every component of every plugin, by kind and name. Built by a function, passed along."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from genmem.host.discovery import discover, order
from genmem.host.errors import ClashingComponent, PluginError, UnknownComponent, did_you_mean
from genmem.host.kinds import KINDS
from genmem.host.plugin import Command, Component, Loaded, Plugin

if TYPE_CHECKING:
    import click


_TOLD = 3
"""Plugins that might have offered a name, told with their cause."""


def load_catalog(files: Sequence[Path] = ()) -> Catalog:
    """Find and load every plugin.

    `GENMEM_BLOCK=a,b` leaves plugins (or whole distributions) alone; `GENMEM_STRICT=1` lets the
    first failure through with its traceback.

    Args:
        files: Un-packaged plugins, single files.

    Raises:
        FileNotFoundError: A file that is not there.
        Exception: With `GENMEM_STRICT=1`, whatever a plugin raised.
    """
    return Catalog.of(_discover(files))


def _discover(files: Iterable[Path], *, installed: bool = True) -> tuple[Loaded, ...]:
    words = os.environ.get("GENMEM_BLOCK", "").split(",")
    blocked = frozenset(word.strip() for word in words) - {""}
    return discover(files, installed=installed, blocked=blocked, strict=is_strict())


def is_strict() -> bool:
    """Whether `GENMEM_STRICT` asks for the first failure, with its traceback."""
    return os.environ.get("GENMEM_STRICT", "") not in ("", "0")


@attrs.frozen(slots=False, eq=False)
class Catalog:
    """What all plugins offer together. Make one with `load_catalog`, or `Catalog.of` in a test."""

    loaded: tuple[Loaded, ...]

    @classmethod
    def of(cls, loaded: Iterable[Loaded]) -> Catalog:
        """The catalog of these plugins; those that share a name become broken."""
        ordered = sorted(loaded, key=lambda one: order(one.plugin))
        return cls(tuple(_without_clashes(ordered)))

    def with_files(self, files: Iterable[Path]) -> Catalog:
        """This catalog and these un-packaged plugins.

        Raises:
            FileNotFoundError: A file that is not there.
        """
        known = {plugin.file for plugin in self.plugins}
        more = [path for path in files if path.resolve() not in known]
        return Catalog.of((*self.loaded, *_discover(more, installed=False))) if more else self

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin found, whatever its status, by name."""
        return tuple(loaded.plugin for loaded in self.loaded)

    @cached_property
    def _offers(self) -> Mapping[tuple[str, str], tuple[Component, ...]]:
        offers: dict[tuple[str, str], tuple[Component, ...]] = defaultdict(tuple)
        for loaded in self.loaded:
            for component in loaded.components:
                offers[component.kind, component.name] += (component,)
        return dict(offers)

    def components(self, kind: str | None = None) -> tuple[Component, ...]:
        """What a recipe can name, of one kind or of all, by kind and name."""
        order = list(KINDS)
        offers = [offer[0] for offer in self._offers.values() if len(offer) == 1]
        chosen = [component for component in offers if kind in (None, component.kind)]
        return tuple(sorted(chosen, key=lambda c: (order.index(c.kind), c.name)))

    def clashes(self) -> tuple[tuple[Component, ...], ...]:
        """Components of one kind and name from several plugins; a recipe cannot name them."""
        return tuple(offer for offer in self._offers.values() if len(offer) > 1)

    def find(self, kind: str, name: str) -> Component:
        """The component of this kind and name.

        Raises:
            UnknownComponent: Nobody offers it; the message has the nearest name, all names and
                the broken plugins that might have offered it.
            ClashingComponent: Several plugins offer it.
        """
        offer = self._offers.get((kind, name), ())
        if len(offer) == 1:
            return offer[0]
        if offer:
            raise ClashingComponent(f"{kind} {name!r} is offered by {_claimants(c.plugin for c in offer)}")
        raise UnknownComponent(self._unknown(kind, name))

    def _unknown(self, kind: str, name: str) -> str:
        names = [component.name for component in self.components(kind)]
        message = f"no {kind} is called {name!r}{did_you_mean(name, names)}"
        message += (
            f" (there are: {', '.join(names)})" if names else f" (no plugin offers {KINDS[kind].plural})"
        )
        absent = [plugin for plugin in self.plugins if plugin.status in ("broken", "blocked")]
        for plugin in absent[:_TOLD]:
            cause = f"broken: {plugin.error}" if plugin.status == "broken" else "blocked by GENMEM_BLOCK"
            message += f"; {plugin} might offer it, but is {cause}"
        if len(absent) > _TOLD:
            message += f"; {len(absent) - _TOLD} more plugins are broken or blocked (see genmem plugins)"
        return message

    def commands(self) -> Mapping[str, click.Command]:
        """Commands of plugins that the command line can run, by name."""
        offers = self._command_offers()
        return {name: offer[0].command for name, offer in sorted(offers.items()) if len(offer) == 1}

    def command_clash(self, name: str) -> str | None:
        """The error for a command that several plugins offer; None where none or one does."""
        offer = self._command_offers().get(name, ())
        if len(offer) < 2:
            return None
        return f"command {name!r} is offered by {_claimants(command.plugin for command in offer)}"

    def _command_offers(self) -> Mapping[str, tuple[Command, ...]]:
        offers: dict[str, tuple[Command, ...]] = defaultdict(tuple)
        for loaded in self.loaded:
            for command in loaded.commands:
                offers[command.name] += (command,)
        return offers


def _claimants(plugins: Iterable[Plugin]) -> str:
    claimants = list(plugins)
    listed = " and by ".join(str(plugin) for plugin in claimants)
    return f"{listed}; block all but one with GENMEM_BLOCK={claimants[-1].name}"


def _without_clashes(loaded: Sequence[Loaded]) -> Iterable[Loaded]:
    """Plugins that share a name become broken: it would not say which of them to block or to trust."""
    for one in loaded:
        rivals = [
            other.plugin
            for other in loaded
            if other.plugin.name == one.plugin.name and other.plugin.status != "blocked"
        ]
        if len(rivals) < 2 or one.plugin.status == "blocked":
            yield one
            continue
        listed = " and by ".join(rival.provider for rival in rivals)
        error = (
            f"the plugin name {one.plugin.name!r} is claimed by {listed}; "
            f"uninstall one, or block it by its distribution: GENMEM_BLOCK={rivals[-1].distribution}"
        )
        if is_strict():
            raise PluginError(error)
        yield Loaded(plugin=attrs.evolve(one.plugin, status="broken", error=error))
