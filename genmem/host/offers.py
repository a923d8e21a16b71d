"""Ask one plugin what it offers, and check every answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pluggy

from genmem.host import hookspecs
from genmem.host.errors import PluginError, did_you_mean
from genmem.host.kinds import COMMANDS_HOOK, KINDS, OWN_COMMANDS, Kind
from genmem.host.plugin import Command, Component, Loaded, Plugin

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")


def inspect_plugin(plugin: Plugin, namespace: object) -> Loaded:
    """The plugin as active, with its components and commands.

    Args:
        plugin: Whose the namespace is.
        namespace: A module, or any object, with hook implementations.

    Raises:
        PluginError: What it offers cannot be used; the message says why.
    """
    if inspect.isclass(namespace):
        raise PluginError(f"the entry point names the class {namespace.__name__}; it must name a module")
    manager = _register(plugin, namespace)
    plugin = attrs.evolve(plugin, status="active")
    components = tuple(c for kind in KINDS.values() for c in _components(manager, kind, plugin))
    commands = tuple(_commands(manager, plugin))
    if not components and not commands:
        raise PluginError("contributes nothing" + _unmarked(namespace))
    return Loaded(plugin=plugin, components=components, commands=commands)


def _register(plugin: Plugin, namespace: object) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("genmem")
    manager.add_hookspecs(hookspecs)
    manager.register(namespace, name=plugin.name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        callers = manager.get_hookcallers(namespace) or []
        unknown = next(caller.name for caller in callers if not caller.has_spec())
        raise PluginError(f"no hook is called {unknown!r}{did_you_mean(unknown, _hooks())}") from error
    return manager


def _hooks() -> list[str]:
    return [kind.hook for kind in KINDS.values()] + [COMMANDS_HOOK]


def _unmarked(namespace: object) -> str:
    """Names the hook whose marker was forgotten, where there is one."""
    forgotten = [hook for hook in _hooks() if callable(getattr(namespace, hook, None))]
    return f": {forgotten[0]} lacks @genmem.hookimpl, or returns nothing" if forgotten else ""


def _answers(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of every mapping the hook returns."""
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        answer = implementation.function()
        if not isinstance(answer, Mapping):
            raise PluginError(f"{hook} must return a mapping from names, got {type(answer).__name__}")
        for name, value in answer.items():
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise PluginError(f"{hook}: {name!r} is no name; letters, digits and _ . : / - make one")
            yield name, value


def _components(manager: pluggy.PluginManager, kind: Kind, plugin: Plugin) -> Iterator[Component]:
    for name, config in _answers(manager, kind.hook):
        try:
            _check_config(config, kind)
        except PluginError as error:
            raise PluginError(f"{kind.hook}: {name!r} {error}") from error
        lines = inspect.cleandoc(config.__doc__ or "").splitlines()
        description = lines[0] if lines and "__doc__" in vars(config) else ""
        yield Component(kind=kind.name, name=name, config=config, plugin=plugin, description=description)


def _check_config(config: Any, kind: Kind) -> None:
    contract = kind.contract.__name__
    if not (isinstance(config, type) and issubclass(config, kind.contract)):
        got = config.__name__ if inspect.isclass(config) else type(config).__name__
        raise PluginError(f"must be a subclass of genmem.contracts.{contract}, got {got}")
    if "__attrs_attrs__" not in vars(config):
        raise PluginError(f"needs @attrs.frozen(kw_only=True) above class {config.__name__}")
    if inspect.isabstract(config):
        missing = ", ".join(sorted(getattr(config, "__abstractmethods__", ())))
        raise PluginError(f"does not implement {missing} of {contract}")
    _resolve_types(config)
    settings: Any = config
    for field in attrs.fields(settings):
        if field.alias in kind.reserved:
            raise PluginError(f"has a field {field.alias!r}, a key that belongs to core in this table")
        if field.type is None:
            raise PluginError(f"has a field {field.alias!r} without a type, so nothing can be checked")


def _resolve_types(config: Any) -> None:
    """Replace annotations written as text by the types, which recipes are checked against."""
    try:
        attrs.resolve_types(config)
    except Exception as error:
        raise PluginError(
            f"has annotations in class {config.__name__} that cannot be resolved ({error}); a module "
            "with configs imports the types of their fields for real, not under TYPE_CHECKING"
        ) from error


def _commands(manager: pluggy.PluginManager, plugin: Plugin) -> Iterator[Command]:
    for name, command in _answers(manager, COMMANDS_HOOK):
        import click

        if not isinstance(command, click.Command):
            raise PluginError(
                f"{COMMANDS_HOOK}: {name!r} must be a click.Command, got {type(command).__name__}"
            )
        if name in OWN_COMMANDS:
            raise PluginError(f"{COMMANDS_HOOK}: {name!r} is a command of genmem itself")
        yield Command(name=name, command=command, plugin=plugin)
