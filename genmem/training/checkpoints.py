"""Checkpoints: tensors and JSON in one folder named by images seen; complete or absent.

000000051200/model/00000.safetensors       a folder for each group, a file for each rank
             optimizer/ ema.ema/ memory.negatives/ …
             state.json                    all else, and size and sha256 of every file
             complete                      sha256 of state.json, written last
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from genmem import __version__
from genmem.data.files import sync_folder
from genmem.training import storage
from genmem.training.integrity import COMPLETE, STATE, VERSION, Damaged, load_state, verify, way_out
from genmem.training.retention import prune, replace
from genmem.training.storage import Piece, piece_of, read_group, read_sizes, write_group

ONLINE = "online"
"""Names the weights that are trained, where others are named by their EMA."""

Place = Callable[[str, str], Tensor | None]
"""(group, name) → where to read a tensor into; None: a whole one on the CPU."""


class Checkpoint(NamedTuple):
    """What one checkpoint holds: named groups of tensors, and everything else as JSON."""

    tensors: dict[str, dict[str, Tensor]]
    """Sharded tensors hold what this rank has of them."""

    state: dict[str, Any]


def save(folder: Path, images_seen: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/<images>` whole, on one process, then drop all but the newest `keep`.

    Raises:
        OSError: Where it cannot be written; what was there before is untouched.
    """
    pieces = {
        group: {name: piece_of(tensor) for name, tensor in tensors.items()}
        for group, tensors in checkpoint.tensors.items()
    }
    path = write(folder, images_seen, pieces, checkpoint.state)
    prune(folder, images_seen, keep)
    return path


def write(
    folder: Path,
    images_seen: int,
    pieces: Mapping[str, Mapping[str, Piece]],
    state: Mapping[str, Any],
    group: dist.ProcessGroup | None = None,
) -> Path:
    """Write `folder/<images>` whole. Collective over `group`; each rank writes its share.

    Raises:
        OSError: On every rank, where one of them cannot write; what was there before is untouched.
    """
    final = folder / f"{images_seen:012d}"
    partial = folder / f".{final.name}.partial"
    lead = group is None or dist.get_rank(group) == 0
    files: dict[str, dict[str, Any]] = {}
    try:
        _on_lead(lambda: _clear(partial), lead, group)
        for name, tensors in sorted(pieces.items()):
            written = write_group(partial / name, tensors, group)
            files |= {
                f"{name}/{file}": {"bytes": one.bytes, "sha256": one.sha256} for file, one in written.items()
            }
        whole = {"version": VERSION, "genmem": __version__, "groups": sorted(pieces), **state, "files": files}
        _on_lead(lambda: _complete(partial, final, whole), lead, group)
    except BaseException:
        if lead:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def _on_lead(act: Callable[[], None], lead: bool, group: dist.ProcessGroup | None) -> None:
    """Act on one rank; where it fails, every rank raises the same."""
    fault: list[OSError | None] = [None]
    if lead:
        try:
            act()
        except OSError as error:
            fault = [error]
    if group is not None:
        dist.broadcast_object_list(fault, group_src=0, group=group)
    if fault[0] is not None:
        raise fault[0]


def _clear(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def _complete(partial: Path, final: Path, state: Mapping[str, Any]) -> None:
    """Everything else, then the mark, then the name."""
    _require_sight(partial, state["files"])
    written = storage.write_file(partial / STATE, [json.dumps(state, indent=1, sort_keys=True).encode()])
    storage.write_file(partial / COMPLETE, [written.sha256.encode()])
    for folder in (*(path for path in partial.iterdir() if path.is_dir()), partial):
        sync_folder(folder)
    replace(partial, final)


def _require_sight(partial: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Whether the first process sees what all of them wrote."""
    for name, file in files.items():
        path = partial / name
        try:
            with path.open("rb") as stream:
                found = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            found = None
        if found != file["bytes"]:
            raise OSError(
                f"process {int(path.stem)}'s file {path} "
                + ("is not seen" if found is None else f"has {found} bytes, not {file['bytes']}, seen")
                + " from process 0: all machines must share the run folder"
            )


def load(path: Path, place: Place = lambda group, name: None) -> Checkpoint:
    """Read one checkpoint; each rank what it has a place for.

    Raises:
        ValueError: A file that is missing or damaged, or of another version; the message names it. Or a
            tensor of another shape than its place.
    """
    state = load_state(path)
    return Checkpoint({group: _read(path / group, place) for group in state["groups"]}, state)


def weights(path: Path, name: str) -> Mapping[str, Tensor]:
    """The backbone's weights in a checkpoint: those of an EMA by its name, or "online".

    Raises:
        ValueError: No such weights; the message has those there are. Or a damaged file; the message names a
            checkpoint that is whole.
    """
    groups = {
        group.removeprefix("ema."): group for group in load_state(path)["groups"] if group[:4] == "ema."
    }
    groups[ONLINE] = "model"
    if name not in groups:
        raise ValueError(f"{path} has no weights {name!r}; there are: {', '.join(groups)}")
    try:
        verify(path, groups[name])
    except Damaged as error:
        raise Damaged(f"{error}; {way_out(path)}") from None
    found = _read(path / groups[name], lambda group, name: None)
    prefix = "backbone." if name == ONLINE else ""
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def _read(folder: Path, place: Place) -> dict[str, Tensor]:
    into = {}
    for name, (shape, dtype) in read_sizes(folder).items():
        found = place(folder.name, name)
        into[name] = torch.empty(shape, dtype=dtype) if found is None else found
        if into[name].shape != shape:
            raise ValueError(
                f"{folder}: {name} is {tuple(shape)}, here it is {tuple(into[name].shape)}; "
                "the run's recipe was another"
            )
    read_group(folder, into)
    return into
