"""What the processes of `test_checkpoints.py` run."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from genmem import collectives
from genmem.training import checkpoints, storage
from genmem.training.checkpoints import Checkpoint
from genmem.training.launch import process_group
from genmem.training.writer import Writer


def whole() -> dict[str, torch.Tensor]:
    """Tensors of every kind; rows that no number of ranks divides, fewer rows than ranks."""
    numbers = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.randn(7, 3, generator=numbers),
        "few": torch.randn(1, 4, generator=numbers),
        "turned": torch.randn(4, 6, generator=numbers).T,
        "halves": torch.randn(5, generator=numbers).bfloat16(),
        "scalar": torch.tensor(3.0),
        "counts": torch.arange(9),
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 8),
    }


SHARDED = ("matrix", "few", "turned", "halves")


def split(mesh: DeviceMesh) -> dict[str, torch.Tensor]:
    """The same tensors, some of them sharded over a mesh."""
    return {
        name: distribute_tensor(value, mesh, [Shard(0)]) if name in SHARDED else value
        for name, value in whole().items()
    }


def run_three(folder: Path, full: Path) -> None:
    """Two processes write; all three read, each its part, and write again; then a disk is full."""
    with process_group(torch.device("cpu")):
        two, pair = DeviceMesh("cpu", [0, 1]), dist.new_group([0, 1])
        if collectives.rank() < 2:
            pieces = {name: storage.piece_of(tensor) for name, tensor in split(two).items()}
            checkpoints.write(folder, 0, {"model": pieces}, {"steps": 0}, pair)
        collectives.barrier()
        read_and_write(folder)
        fill_disk_on_rank_1(full)


def read_and_write(folder: Path) -> None:
    """Take up the checkpoint 0 on this number of processes, and write it again as 96."""
    tensors = split(init_device_mesh("cpu", (collectives.world_size(),)))
    for value in tensors.values():
        storage.local(value).zero_()
    found = checkpoints.load(folder / f"{0:012d}", lambda group, name: tensors[name])
    for name, value in found.tensors["model"].items():
        assert isinstance(value, DTensor) == (name in SHARDED)
        full = value.full_tensor() if isinstance(value, DTensor) else value
        assert torch.equal(full, whole()[name]), name
    with Writer(folder, keep=3) as writer:
        writer.save(96, Checkpoint({"model": tensors}, {"steps": 96}))


def fill_disk_on_rank_1(folder: Path) -> None:
    """One rank's disk is full: every rank hears it, and nothing half-written is left."""
    if collectives.rank() == 1:
        storage.write_file = refuse
    writer = Writer(folder, keep=1)
    writer.save(32, Checkpoint({"model": {"a": torch.zeros(4), "b": torch.zeros(4)}}, {}))
    try:
        writer.settle()
    except OSError as error:
        (folder / f"{collectives.rank()}.txt").write_text(str(error))


def save_in_a_folder_each(folder: Path) -> None:
    """Machines that do not share the run folder: what is told is left in `folder`."""
    with process_group(torch.device("cpu")):
        writer = Writer(folder / str(collectives.rank()), keep=1)
        writer.save(32, Checkpoint({"model": {"a": torch.zeros(4), "b": torch.zeros(4)}}, {}))
        try:
            writer.settle()
        except OSError as error:
            (folder / f"{collectives.rank()}.txt").write_text(str(error))


def refuse(path: Path, parts: object) -> storage.File:
    """A disk without room."""
    raise OSError(28, os.strerror(28), str(path))
