"""How tensors of a checkpoint lie on the disk: safetensors, planned by torch.distributed.checkpoint.

Every rank writes its pieces into a file of its own; a reader takes from all files what it holds, on any
number of ranks. No pickle is written or read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_QUIET = "torch.distributed is disabled, unavailable or uninitialized"


class Piece(NamedTuple):
    """A tensor to write: on the CPU, contiguous, its own until it is written."""

    data: Tensor
    """What this rank holds of it."""

    whole: Tensor
    """The same where every rank holds it all; where it is sharded, the DTensor: only its layout is read."""


def piece_of(tensor: Tensor) -> Piece:
    """A tensor as it is, not copied where it lies contiguous on the CPU."""
    data = local(tensor).detach().cpu().contiguous()
    return Piece(data, tensor if isinstance(tensor, DTensor) else data)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor; a sharded one's own part, which shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class File(NamedTuple):
    """A file as it was written."""

    name: str
    bytes: int
    sha256: str


def write_file(path: Path, parts: Iterable[bytes | memoryview]) -> File:
    """Write a file of a checkpoint, synced to the disk. Everything in a checkpoint passes here.

    Raises:
        OSError: It cannot be written; the path is in the message.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as stream:
            for part in parts:
                stream.write(part)
                digest.update(part)
                size += len(part)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    return File(path.name, size, digest.hexdigest())


def write_group(
    folder: Path, pieces: Mapping[str, Piece], group: dist.ProcessGroup | None = None
) -> dict[str, File]:
    """Write tensors into `folder`, one file a rank; collective over `group`. On rank 0: what was written.

    Raises:
        OSError: On every rank, where one of them could not write.
    """
    writer = _Writer(folder, {name: piece.data for name, piece in pieces.items()})
    planned = {name: piece.whole for name, piece in pieces.items()}
    _silence()
    try:
        save(planned, storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if isinstance(cause, OSError):
            raise cause from error
        raise OSError(errno.EIO, f"process {rank}: {type(cause).__name__}: {cause}", str(folder)) from error
    return writer.files


class _Writer(HuggingFaceStorageWriter):
    """Streams tensors to the disk one by one: nothing is serialised in memory first."""

    def __init__(self, folder: Path, data: Mapping[str, Tensor]) -> None:
        super().__init__(str(folder), save_distributed=True)
        self.data = data
        self.files: dict[str, File] = {}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's share of the plan."""
        items = {item.index.fqn: item for item in plan.items}
        results = []
        if items:
            offsets = {
                name: list(item.tensor_data.chunk.offsets) for name, item in items.items() if item.tensor_data
            }
            path = Path(self.path) / f"{plan.storage_data['shard_index'] - 1:05d}.safetensors"
            written = write_file(path, _serialise({name: self.data[name] for name in items}, offsets))
            results = [WriteResult(item.index, self.data[n].nbytes, written) for n, item in items.items()]
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Note which files there are now (on the first rank)."""
        self.files = {one.storage_data.name: one.storage_data for rank in results for one in rank}


def _serialise(
    tensors: Mapping[str, Tensor], offsets: Mapping[str, list[int]]
) -> Iterator[bytes | memoryview]:
    """A safetensors file, part by part; the largest numbers first, so that all lie aligned."""
    sharding = {name: {"saved_offsets": offsets[name]} for name in tensors}
    header: dict[str, Any] = {
        "__metadata__": {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(sharding)}
    }
    order, begin = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)), 0
    for name in order:
        value = tensors[name]
        span = [begin, begin := begin + value.nbytes]
        header[name] = {"dtype": _DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": span}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield len(encoded).to_bytes(8, "little") + encoded
    for name in order:
        yield tensors[name].reshape(-1).view(torch.uint8).numpy().data


def read_sizes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """{name: shape and type} of the whole tensors in a folder.

    Raises:
        ValueError: A file is damaged.
    """
    try:
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{folder} cannot be read ({error})") from None
    return {name: (one.size, one.properties.dtype) for name, one in found.items()}  # type: ignore[union-attr]


def read_group(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors from a folder, whole ones and this rank's parts of sharded ones. Not collective.

    Raises:
        ValueError: A file is damaged.
    """
    _silence()
    try:
        load(dict(into), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise ValueError(f"{folder} cannot be read ({cause})") from error


def _silence() -> None:
    """A single process is told that it is one; nobody has to be."""
    warnings.filterwarnings("ignore", _QUIET, UserWarning)
