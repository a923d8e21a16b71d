"""What encoders have learned, as safetensors files beside the shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from genmem.data.errors import DataError
from genmem.data.files import hash_file, replace_file


def state_path(folder: Path, name: str) -> Path:
    """Where the state of an encoder lies in a set."""
    return folder / "encoders" / f"{name}.safetensors"


def save_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write a state."""
    with replace_file(path) as file:
        file.write(_pack(state))


def hash_state(state: Mapping[str, np.ndarray]) -> str:
    """sha256 of the file that `save_state` would write: for weights that need no copy in the set."""
    return hashlib.sha256(_pack(state)).hexdigest()


def _pack(state: Mapping[str, np.ndarray]) -> bytes:
    return save({name: np.ascontiguousarray(state[name]) for name in sorted(state)})


def load_state(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read a state, and compare it with its hash where one is given.

    Raises:
        DataError: A file that is missing or was changed.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing; prepare the set again")
    if sha256 is not None and (found := hash_file(path)) != sha256:
        raise DataError(f"{path}: sha256 {found}, the manifest says {sha256}; prepare the set again")
    return dict(load(path.read_bytes()))
