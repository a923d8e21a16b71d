"""Contract check of a whole plugin."""

from __future__ import annotations

import subprocess
import sys

from genmem.host.catalog import load_catalog

_PROBE = "import importlib, sys; importlib.import_module(sys.argv[1]); sys.exit(int('torch' in sys.modules))"


def check_plugin(name: str) -> None:
    """Check an installed plugin by its entry-point name.

    It must load, contribute something, describe every component, and import no torch.

    Raises:
        AssertionError: What does not hold.
    """
    catalog = load_catalog()
    found = [plugin for plugin in catalog.plugins if plugin.name == name]
    assert found, f"no plugin {name!r} is installed; there are {', '.join(p.name for p in catalog.plugins)}"
    plugin = found[0]
    assert plugin.status == "active", f"plugin {name!r} is {plugin.status}: {plugin.error}"
    for component in catalog.components():
        if component.plugin.name == name:
            assert component.description, (
                f"{component.kind} {component.name!r} needs a docstring on its config class"
            )
    probe = subprocess.run([sys.executable, "-c", _PROBE, plugin.module], capture_output=True, text=True)
    assert probe.returncode != 1 or probe.stderr, (
        f"importing {plugin.module} imports torch; import it in build()"
    )
    assert probe.returncode == 0, f"importing {plugin.module} failed: {probe.stderr}"
