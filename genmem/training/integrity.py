"""Whether a checkpoint is whole: torn writes and bytes that changed are found and named."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genmem import __version__, collectives
from genmem.data.files import hash_file

VERSION = 2
STATE, COMPLETE = "state.json", "complete"


class Damaged(ValueError):
    """A checkpoint that is not whole: torn, or with a byte that changed. The message names the file."""


def numbered(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def torn(path: Path) -> str | None:
    """What is missing or cut short in a checkpoint; bytes are not looked at.

    Raises:
        ValueError: It is of another version.
    """
    try:
        load_state(path)
    except Damaged as error:
        return str(error)
    return None


def newest(
    folder: Path,
    fault_of: Callable[[Path], str | None] = torn,
    tell: Callable[[str], None] = warnings.warn,
) -> Path | None:
    """The newest checkpoint without a fault; each that is passed over is told. None where there is none.

    Raises:
        Damaged: There are some, and each has a fault.
    """
    faults: list[str] = []
    for path in reversed(numbered(folder)):
        fault = fault_of(path)
        if fault is None:
            for line in faults:
                tell(f"{line}; going back to {path}")
            return path
        faults.append(fault)
    if faults:
        raise Damaged("; ".join(faults) + f"; no checkpoint in {folder} is whole, delete it to start anew")
    return None


def choose(folder: Path, images: int | None = None) -> Path | None:
    """The newest checkpoint, or that of so many images; never another in its place. None where there is none.

    Raises:
        FileNotFoundError: There are some, but not this one.
        Damaged: It is torn; the message names one that is whole.
        ValueError: It is of another version.
    """
    found = {int(path.name): path for path in numbered(folder)}
    if not found:
        return None
    if images is not None and images not in found:
        there = ", ".join(map(str, found))
        raise FileNotFoundError(f"{folder} has no checkpoint of {images} images; there are: {there}")
    path = found[max(found) if images is None else images]
    if (fault := torn(path)) is not None:
        raise Damaged(f"{fault}; {way_out(path)}")
    return path


def way_out(path: Path) -> str:
    """What to do about a damaged checkpoint: which other one is whole, and how to take that."""
    for other in reversed(numbered(path.parent)):
        if other != path and _is_whole(other):
            return (
                f"{other} is whole: --checkpoint {int(other.name)} takes that one, and genmem train goes "
                "on from there"
            )
    return f"no other checkpoint in {path.parent} is whole: bring the file back, or train again"


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except ValueError:
        return False
    return True


def load_state(path: Path) -> dict[str, Any]:
    """Read what a checkpoint holds besides tensors.

    Raises:
        Damaged: A file is missing or cut short.
        ValueError: It is of another version.
    """
    try:
        text = (path / STATE).read_bytes()
        state: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise Damaged(f"{path / STATE} cannot be read ({error})") from None
    _require_version(path, state.get("version"), state.get("genmem"))
    mark = path / COMPLETE
    if not mark.is_file() or mark.read_bytes() != hashlib.sha256(text).hexdigest().encode():
        raise Damaged(f"{path} is not whole: {mark.name} does not fit {STATE}")
    for name, file in state["files"].items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != file["bytes"]:
            raise Damaged(f"{path / name} cannot be read: {file['bytes']} bytes expected, found {found or 0}")
    return state


def _require_version(path: Path, found: object, wrote: object) -> None:
    if found == VERSION:
        return
    older = isinstance(found, int) and found < VERSION
    whose = f"genmem {wrote}" if wrote else "the genmem that environment.json in the run folder names"
    raise ValueError(
        f"{path / STATE} has version {found}, this genmem ({__version__}) reads {VERSION}; "
        + (
            f"{whose} wrote it: finish the run with that one"
            if older
            else f"{whose} wrote it: update to that one"
        )
        + ", or start anew with --out"
    )


def verify(path: Path, group: str = "", share: int = 0, shares: int = 1) -> None:
    """Compare files with their sha256: all, those of a group, or one rank's share of them.

    Raises:
        Damaged: A file is not what was written.
    """
    files = load_state(path)["files"]
    for name in sorted(name for name in files if name.startswith(group and f"{group}/"))[share::shares]:
        found, expected = hash_file(path / name), files[name]["sha256"]
        if found != expected:
            raise Damaged(
                f"{path / name} cannot be read: its sha256 is {found[:16]}…, expected {expected[:16]}…"
            )


def shared_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; every rank looks at its share of the files. Collective."""
    try:
        verify(path, share=collectives.rank(), shares=collectives.world_size())
        fault = None
    except Damaged as error:
        fault = str(error)
    return collectives.first_word(fault)
