"""Real distributions in a temporary folder: a `.dist-info` and modules, as pip leaves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import genmem

ROOT = Path(genmem.__file__).parent.parent

OBJECTIVE = """\
import attrs
from genmem import hookimpl
from genmem.contracts import ObjectiveConfig


@attrs.frozen(kw_only=True)
class Config(ObjectiveConfig):
    "{description}"

    def build(self, facts):
        raise NotImplementedError


@hookimpl
def genmem_objectives():
    return {{"{name}": Config}}
"""


def objective(name: str, description: str = "From outside.") -> str:
    """The source of a plugin that offers one objective."""
    return OBJECTIVE.format(name=name, description=description)


def install(
    folder: Path, distribution: str, source: str, *, version: str = "1.0", plugin: str = "", module: str = ""
) -> None:
    """Put a distribution with one module and one entry point into a folder of `sys.path`."""
    module = module or distribution.replace("-", "_")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[genmem]\n{plugin or distribution} = {module}\n")
    (folder / f"{module}.py").write_text(source)


def genmem_command(
    *arguments: str,
    path: Path | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with one more folder on `sys.path`."""
    return python("-m", "genmem", *arguments, path=path, folder=folder, env=env)


def python(
    *arguments: str,
    path: Path | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run Python with genmem importable, and one more folder on `sys.path`."""
    folders = [str(one) for one in (path, ROOT, ROOT / "plugins") if one is not None and one.exists()]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENMEM_")}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join(folders), **(env or {})},
        timeout=300,
    )


def listing(path: Path, **env: str) -> dict[str, Any]:
    """What `genmem plugins --json` says; it has to work, whatever is installed."""
    done = genmem_command("plugins", "--json", path=path, env=env)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def pip_install(source: Path, target: Path) -> None:
    """Install a distribution into a folder; nothing is downloaded."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
