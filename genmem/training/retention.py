"""Which checkpoints stay: the newest, some for good; none is deleted before another stands in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from genmem.data.files import sync_folder
from genmem.training.integrity import numbered, torn

REPLACED, DAMAGED = "replaced", "damaged"


def prune(folder: Path, images_seen: int, keep: int, keep_every: int | None = None) -> None:
    """Delete what is older than the newest `keep` up to `images_seen`.

    With `keep_every`, the first checkpoint after each multiple of so many images stays for good.
    """
    found = [path for path in numbered(folder) if int(path.name) <= images_seen]
    befores = [0, *(int(path.name) for path in found)]
    for path, before in zip(found[:-keep], befores, strict=False):
        if keep_every is None or int(path.name) // keep_every == before // keep_every:
            shutil.rmtree(path, ignore_errors=True)


def replace(partial: Path, final: Path) -> None:
    """Give a whole checkpoint its name. One that has it stands beside until then, and goes only after.

    Raises:
        OSError: It cannot be renamed; the old one has its name again.
    """
    old = final.with_name(f".{final.name}.{REPLACED}")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def tidy(folder: Path) -> None:
    """After a kill within `replace`: the old checkpoint has its name again, unless the new one has it."""
    for old in folder.glob(f".*.{REPLACED}"):
        final = folder / old.name.split(".")[1]
        if final.exists() or torn(old) is not None:
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(final)


def set_aside(folder: Path, whole: Path) -> list[Path]:
    """Rename the damaged checkpoints later than the one that is whole: none counts among those to keep."""
    moved = []
    for path in numbered(folder):
        if path.name > whole.name:
            aside = path.with_name(f"{path.name}.{DAMAGED}")
            shutil.rmtree(aside, ignore_errors=True)
            moved.append(path.rename(aside))
    return moved
