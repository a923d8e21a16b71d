"""Checkpoints: tensors and JSON in one folder named by images seen; complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

VERSION = 1

ONLINE = "online"
"""Names the weights that are trained, where others are named by their EMA."""


class Checkpoint(NamedTuple):
    """What one checkpoint holds: named groups of tensors, and everything else as JSON."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(folder: Path, images_seen: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/<images>` whole, then drop all but the newest `keep`.

    Raises:
        OSError: Where it cannot be written; what was there before is untouched.
    """
    final = folder / f"{images_seen:012d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, partial / f"{group}.safetensors")
    state = {"version": VERSION, "groups": sorted(checkpoint.tensors), **checkpoint.state}
    (partial / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in numbered(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def numbered(folder: Path) -> list[Path]:
    """Complete checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        ValueError: A file that is missing, damaged, or of another version; the message names it.
    """
    state = load_state(path)
    return Checkpoint({group: _read(path / f"{group}.safetensors") for group in state["groups"]}, state)


def load_state(path: Path) -> dict[str, Any]:
    """Read what a checkpoint holds besides tensors.

    Raises:
        ValueError: The file is missing, damaged, or of another version.
    """
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}/state.json cannot be read ({error}); delete {path} to use the one before"
        ) from None
    if state.get("version") != VERSION:
        raise ValueError(f"{path}/state.json has version {state.get('version')}, this genmem reads {VERSION}")
    return state


def weights(path: Path, name: str) -> Mapping[str, Tensor]:
    """The backbone's weights in a checkpoint: those of an EMA by its name, or "online".

    Raises:
        ValueError: No such weights; the message has those there are. Or a damaged file.
    """
    if name == ONLINE:
        prefix = "backbone."
        model = _read(path / "model.safetensors")
        return {key.removeprefix(prefix): value for key, value in model.items() if key.startswith(prefix)}
    averages = [file.name.removeprefix("ema.").removesuffix(".safetensors") for file in path.glob("ema.*")]
    if name not in averages:
        there = ", ".join([*sorted(averages), ONLINE])
        raise ValueError(f"{path} has no weights {name!r}; there are: {there}")
    return _read(path / f"ema.{name}.safetensors")


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}); delete {file.parent} to use the one before"
        ) from None


def _sync(folder: Path) -> None:
    for file in [*folder.iterdir(), folder]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
