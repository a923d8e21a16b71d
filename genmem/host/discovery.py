"""Find plugins, load them one by one, classify them. One that is broken never hides the rest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import attrs

from genmem.host.errors import PluginError
from genmem.host.offers import inspect_plugin
from genmem.host.plugin import FILE, Loaded, Plugin
from genmem.host.wall import TorchImported, TorchWall

GROUP = "genmem"
"""The entry-point group: ours and everybody else's."""


def discover(
    files: Iterable[Path] = (),
    *,
    installed: bool = True,
    blocked: Collection[str] = frozenset(),
    strict: bool = False,
) -> tuple[Loaded, ...]:
    """Every plugin there is, by name.

    Args:
        files: Un-packaged plugins, single files.
        installed: Whether to look at installed distributions too.
        blocked: Names of plugins or distributions to leave alone: they are not even imported.
        strict: Let the first failure through, with its traceback.

    Raises:
        Exception: With `strict`, whatever a plugin raised.
    """
    found = [*(find_installed() if installed else ()), *find_files(files)]
    return tuple(classify(plugin, blocked, strict) for plugin in sorted(found, key=order))


def order(plugin: Plugin) -> tuple[str, str, str]:
    """Plugins by name, whatever the order of `sys.path`."""
    return plugin.name, plugin.distribution, plugin.module


def find_installed() -> list[Plugin]:
    """Entry points of the group, from metadata alone; what is listed twice on `sys.path` counts once."""
    found = set()
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
        found.add(Plugin(name=point.name, module=point.value, distribution=distribution, version=version))
    return list(found)


def find_files(files: Iterable[Path]) -> list[Plugin]:
    """Single files as plugins, with the hash of what will run.

    Raises:
        FileNotFoundError: A file that is not there.
    """
    found = {}
    for path in files:
        path = path.resolve()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path] = Plugin(name=path.stem, module=str(path), distribution=FILE, version="", sha256=digest)
    return list(found.values())


def classify(plugin: Plugin, blocked: Collection[str], strict: bool) -> Loaded:
    """Load one plugin: active with what it offers, blocked, or broken with the cause."""
    if plugin.name in blocked or plugin.distribution in blocked:
        return Loaded(plugin=attrs.evolve(plugin, status="blocked"))
    try:
        return inspect_plugin(plugin, load(plugin))
    except Exception as error:
        if strict:
            raise
        return Loaded(plugin=attrs.evolve(plugin, status="broken", error=_cause(error)))


def _cause(error: Exception) -> str:
    if isinstance(error, (PluginError, TorchImported)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def load(plugin: Plugin) -> object:
    """Import what the plugin names, behind the wall before torch.

    Raises:
        TorchImported: It imports torch, even where it hides the failure.
        Exception: Whatever the plugin raises.
    """
    with TorchWall() as wall:
        namespace = _load_file(plugin) if plugin.file else _load_installed(plugin)
    if wall.attempt:
        sys.modules.pop(getattr(namespace, "__name__", plugin.module), None)
        raise TorchImported(wall.attempt)
    return namespace


def _load_installed(plugin: Plugin) -> object:
    return importlib.metadata.EntryPoint(plugin.name, plugin.module, GROUP).load()


def _load_file(plugin: Plugin) -> object:
    """Import a single file, once for each content; registered, since annotations are looked up there."""
    assert plugin.file is not None
    name = f"{GROUP}_file_{plugin.name}_{plugin.sha256[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, plugin.file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{plugin.file} is no Python file (a plugin's name ends in .py)")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
