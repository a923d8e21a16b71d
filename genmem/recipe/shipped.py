"""The recipes that come with genmem: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

import genmem
from genmem.host import did_you_mean


def shipped_folder() -> Path:
    """The folder with the shipped recipes."""
    package = Path(genmem.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def list_shipped() -> dict[str, Path]:
    """{name: file}; the name is the path inside the folder, without ".toml"."""
    folder = shipped_folder()
    files = sorted(folder.rglob("*.toml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_shipped(name: str) -> Path | None:
    """The shipped recipe of this name, with or without ".toml"."""
    return list_shipped().get(name.removesuffix(".toml"))


def copy_shipped(name: str, dest: Path) -> Path:
    """Copy a shipped recipe to a file, or into a folder; returns where it is now.

    Raises:
        LookupError: There is none of this name.
        FileExistsError: There is something already; nothing is overwritten.
    """
    source = find_shipped(name)
    if source is None:
        raise LookupError(f"no shipped recipe is called {name!r}{did_you_mean(name, list_shipped())}")
    target = dest / source.name if dest.is_dir() else dest
    if target.exists():
        raise FileExistsError(f"{target} is there already, and nothing is overwritten")
    target.write_bytes(source.read_bytes())
    return target
