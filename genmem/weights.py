"""Published weights of tokenizers and encoders: tensors in safetensors files, and their hash.

Nothing else is read: a pickle is refused, with the way to make safetensors of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from genmem.extras import import_extra

EXTRA = "models"
"""The extra that the libraries of published networks come with."""

_NAMED = 3
_LONGEST_JSON = 1 << 24
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def fetch_file(repository: str, name: str) -> Path:
    """A file of a repository on the Hugging Face hub; from the hub's cache on this machine if it is there.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        ConnectionError: The hub, the repository or the file cannot be reached.
    """
    hub = import_extra("huggingface_hub", EXTRA)
    try:
        return Path(str(hub.hf_hub_download(repository, name)))
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"{repository}: {name} cannot be fetched from the Hugging Face hub "
            f"({type(error).__name__}), nor is it in its cache; where there is no network, copy the "
            'repository to this machine and set path = "FOLDER"'
        ) from error


class PublishedModel:
    """A published network: a folder on this machine, or a repository on the Hugging Face hub."""

    def __init__(self, path: str, hub: str, names: Sequence[str]) -> None:
        """Nothing is read yet.

        Args:
            path: A safetensors file, or a folder with one; empty: the hub is asked.
            hub: Name of the repository, "stabilityai/sd-vae-ft-ema" say.
            names: What its file of weights may be called, best first.
        """
        self._path, self._hub, self._names = path, hub, tuple(names)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What config.json beside the weights says.

        Raises:
            ConnectionError: It is on the hub, which cannot be reached.
            FileNotFoundError: There is none.
            ValueError: It is no JSON object.
        """
        if not self._path:
            return read_json(fetch_file(self._hub, "config.json"))
        path = self._here()
        return read_json((path if path.is_dir() else path.parent) / "config.json")

    @cached_property
    def file(self) -> Path:
        """The file of weights.

        Raises:
            ConnectionError: It is on the hub, which cannot be reached.
            FileNotFoundError: A folder with none in it, or with several of other names.
        """
        if not self._path:
            return fetch_file(self._hub, self._names[0])
        path = self._here()
        return _choose(path, self._names) if path.is_dir() else path

    def _here(self) -> Path:
        path = Path(self._path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; weights are expected there")
        return path


def _choose(folder: Path, names: Sequence[str]) -> Path:
    found = sorted(file.name for file in folder.glob("*.safetensors"))
    usable = [name for name in names if name in found] or (found if len(found) == 1 else [])
    if usable:
        return folder / usable[0]
    pickles = sorted(file for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles and not found:
        raise FileNotFoundError(_refusal(pickles[0]))
    raise FileNotFoundError(
        f"{folder}: expected {' or '.join(names)} in it, found {', '.join(found) or 'no safetensors file'}; "
        "name the file itself"
    )


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or no safetensors file; nothing in it was run.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    with file.open("rb") as stream:
        head = stream.read(9)
    if head[8:] != b"{":
        raise ValueError(_refusal(file))
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: a damaged safetensors file: {error}; fetch it again") from None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, such as a network's config.json.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        found = json.loads(file.read_bytes()) if file.stat().st_size <= _LONGEST_JSON else None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    raise ValueError(f"{file}: expected a JSON object")


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values: the same for the same weights in any file."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Load every parameter of a network, and nothing else, from a file's tensors.

    Args:
        network: Takes the weights, in its own precision.
        tensors: Under the network's own names.
        file: Where they come from, for the message.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    wanted = network.state_dict()
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    faults = {
        "lacks": sorted(wanted.keys() - tensors.keys()),
        "has besides": sorted(tensors.keys() - wanted.keys()),
        "differs:": shapes,
    }
    if any(faults.values()):
        told = "; ".join(f"{how} {_some(names)}" for how, names in faults.items() if names)
        raise ValueError(f"{file}: not the weights of this {type(network).__name__}: {told}")
    network.load_state_dict(tensors)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _refusal(file: Path) -> str:
    return (
        f"{file}: no safetensors file, and nothing else is read; if it holds tensors in a pickle: "
        f"genmem checkpoint convert {file} {file.with_suffix('.safetensors')}"
    )
