"""Reading files of weights. Nothing in a file is ever run.

A pickle is read by torch's restricted unpickler, which knows tensors, containers and numbers; the
one class let through besides is `argparse.Namespace`, which holds a training script's options and
is data. It is allowed for the length of one read.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

AVERAGE = ("ema",)
ONLINE = ("model", "state_dict")
"""Entries under which training scripts keep weights, beside optimizer state and options."""

_UNKNOWN = re.compile(r"GLOBAL (\S+)")


class Weights(NamedTuple):
    """The weights in a file, under the file's names without wrappers' prefixes."""

    average: dict[str, Tensor]
    """The moving average; the only weights, where there is one set."""

    online: dict[str, Tensor] | None
    """Those that trained, where the file has both."""

    ignored: tuple[str, ...]
    """Entries that are no weights: an optimizer's state, options, a step count."""

    metadata: Mapping[str, str]
    """What a safetensors file says of itself."""


def read_weights(file: Path) -> Weights:
    """Read a bare state dict, a dict of several, or a safetensors file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, holds code or objects, or no weights.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    content, metadata = _read_safetensors(file) if _is_safetensors(file) else (read_pickle(file), {})
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004 - it is the file that is wrong, not a type
            f"{file} holds a {type(content).__name__}, not a dict of tensors"
        )
    if any(isinstance(value, Tensor) for value in content.values()):
        average, used = content, set(content)
        online = None
    else:
        (average, online), used = _choose(file, content)
    bare = [name for name, value in average.items() if not isinstance(value, Tensor)]
    ignored = [str(name) for name in content if name not in used] + [str(name) for name in bare]
    return Weights(
        _without_prefixes(file, average),
        None if online is None else _without_prefixes(file, online),
        tuple(ignored),
        metadata,
    )


def _choose(
    file: Path, content: Mapping[Any, Any]
) -> tuple[tuple[Mapping[Any, Any], Mapping[Any, Any] | None], set[Any]]:
    """The average and the online weights among a dict's entries, and the names of those taken."""
    found = [_first(content, names) for names in (AVERAGE, ONLINE)]
    names = [name for name in found if name is not None]
    if not names:
        entries = ", ".join(sorted(map(str, content))) or "nothing"
        raise ValueError(
            f"{file} holds {entries}, and no weights: they are looked for at the top and under "
            f"{', '.join((*AVERAGE, *ONLINE))}; save the state dict alone"
        )
    sets = [content[name] for name in names]
    return (sets[0], sets[1] if len(sets) > 1 else None), set(names)


def _first(content: Mapping[Any, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if isinstance(content.get(name), Mapping)), None)


def _without_prefixes(file: Path, tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Names without what data-parallel wrappers (`module.`) and compile (`_orig_mod.`) put in."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            continue
        parts = [part for part in str(name).split(".") if part != "_orig_mod"]
        while parts[:1] == ["module"]:
            parts = parts[1:]
        plain = ".".join(parts)
        if plain in found:
            raise ValueError(f"{file} has {plain} twice, with and without a prefix; save one of them")
        found[plain] = value
    return found


def _is_safetensors(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is a damaged safetensors file: {error}") from None


def read_pickle(file: Path) -> Any:
    """Tensors, containers and numbers in a file of `torch.save`; tensors of a newer one stay on disk.

    Raises:
        ValueError: It is damaged, or holds code or objects.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} {_explain(error)}") from None


def _explain(error: Exception) -> str:
    """Why a pickle was not read; torch's own text recommends to run what is in it."""
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        return f"cannot be read as weights ({type(error).__name__}): it is damaged, or no file of weights"
    return (
        f"holds {unknown[1]}, which is no tensor and might run code, so it was not read; "
        "let whoever has it save the state dict alone, best as safetensors"
    )
