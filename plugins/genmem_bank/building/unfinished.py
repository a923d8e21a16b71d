"""A bank that is being built: what is done so far lies in `.build`, in the bank's folder.

    plan.json                  what is built; whatever else it was, is thrown away
    moments-<block>            mean and scatter of a block of rows
    basis-<rank>               the basis, once all moments are there
    rows                       the segment's file, written in place, a block at a time
    rows-<block>.json          a block's rows are written: their checksum and squared error
    encoded-<hash>/            features that an encoder made of the set's pictures

Blocks do not depend on how many processes there are, so a build that was killed goes on with any
number of them, and the bank is the same for all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genmem_bank.building.moments import Decomposition, Moments
from genmem_bank.storage.files import Basis
from genmem_bank.storage.tensors import map_tensors, replace, write_tensors

UNFINISHED = ".build"
MOST = 64
_PIECE = 1 << 24


class Block(NamedTuple):
    """A piece of work: consecutive rows."""

    number: int
    start: int
    stop: int


def blocks_of(rows: int, width: int) -> list[Block]:
    """At most 64 blocks, so large that moments on disk are small beside the features."""
    size = max(-(-rows // MOST), 16 * width)
    starts = range(0, rows, size)
    return [Block(number, start, min(start + size, rows)) for number, start in enumerate(starts)]


class Unfinished:
    """The folder `.build`. Processes write files of their own blocks; the first one the rest."""

    def __init__(self, folder: Path, blocks: list[Block], width: int) -> None:
        """Of the bank in `folder`."""
        self.folder = folder / UNFINISHED
        self.rows = self.folder / "rows"
        self.blocks, self._width = blocks, width

    def begin(self, plan: dict[str, Any]) -> None:
        """Keep what a killed build of the same plan has done; throw away what another one has."""
        path, text = self.folder / "plan.json", json.dumps(plan, sort_keys=True, indent=1)
        if path.is_file() and path.read_text() != text:
            self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(path, [text.encode()])

    def remove(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # moments -------------------------------------------------------------------------------

    def moments(self, block: Block) -> Moments | None:
        """Those of a block, if they are there and whole."""
        width = self._width
        try:
            shapes = {"mean": ("F64", (width,)), "scatter": ("F64", (width, width))}
            found = map_tensors(self._moments_path(block), shapes)
        except ValueError:
            return None
        return Moments(block.stop - block.start, found["mean"], found["scatter"])

    def all_moments(self) -> Iterator[Moments]:
        """Those of every block, in order.

        Raises:
            ValueError: A block's are not there: another process's file does not reach this one.
        """
        for block in self.blocks:
            found = self.moments(block)
            if found is None:
                raise ValueError(
                    f"{self._moments_path(block)}: not there, but another process wrote it; "
                    "all of them need the same disk"
                )
            yield found

    def keep_moments(self, block: Block, found: Moments) -> None:
        """Store them."""
        tensors = {"mean": ("F64", found.mean_E), "scatter": ("F64", found.scatter_EE)}
        write_tensors(self._moments_path(block), tensors)

    def forget_moments(self) -> None:
        """Take them anew, and the basis with them."""
        for path in (*self.folder.glob("moments-*"), *self.folder.glob("basis-*")):
            path.unlink()

    # basis ---------------------------------------------------------------------------------

    def basis(self) -> Decomposition | None:
        """The basis, if it is there and whole."""
        for path in self.folder.glob("basis-*"):
            rank, width = int(path.name.partition("-")[2]), self._width
            shapes = (
                ("mean", (width,)),
                ("basis", (width, rank)),
                ("singular", (rank,)),
                ("spectrum", (width,)),
            )
            try:
                arrays = map_tensors(path, {name: ("F64", shape) for name, shape in shapes})
            except ValueError:
                return None
            *basis, spectrum_E = (np.array(array) for array in arrays.values())
            return Decomposition(Basis(*basis), spectrum_E)
        return None

    def keep_basis(self, found: Decomposition) -> None:
        """Store it."""
        arrays = zip(("mean", "basis", "singular", "spectrum"), (*found.basis, found.spectrum_E), strict=True)
        path = self.folder / f"basis-{len(found.basis.singular_R)}"
        write_tensors(path, {name: ("F64", array) for name, array in arrays})

    # rows ----------------------------------------------------------------------------------

    def begin_rows(self, head: bytes, size: int) -> None:
        """Have a file of `head` and `size` bytes of rows, or keep the one that is there.

        Notes of blocks that an older file held do not fit a new one: their checksums differ.
        """
        whole = len(head) + size
        if self.rows.is_file() and self.rows.stat().st_size == whole:
            with self.rows.open("rb") as file:
                if file.read(len(head)) == head:
                    return
        with self.rows.open("wb") as file:
            file.write(head)
            file.truncate(whole)

    def is_written(self, block: Block) -> bool:
        """Whether a block's rows are there, as they were written."""
        path = self._note(block)
        note = json.loads(path.read_text()) if path.is_file() else None
        return note is not None and self._checksum(note["at"], note["size"]) == note["crc"]

    def note_rows(self, block: Block, at: int, size: int, squared_error: float) -> None:
        """A block's rows are written: `size` bytes at `at`."""
        note = {"at": at, "size": size, "crc": self._checksum(at, size), "squared_error": squared_error}
        replace(self._note(block), [json.dumps(note).encode()])

    def squared_error(self) -> float:
        """Of all rows."""
        notes = (json.loads(self._note(block).read_text()) for block in self.blocks)
        return math.fsum(note["squared_error"] for note in notes)

    def hash_rows(self, start: int) -> str:
        """sha256 of all rows, which begin at byte `start`; from here on the disk has them."""
        digest = hashlib.sha256()
        with self.rows.open("r+b") as file:
            os.fsync(file.fileno())
            file.seek(start)
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def _checksum(self, at: int, size: int) -> int:
        crc = 0
        with self.rows.open("rb") as file:
            file.seek(at)
            for left in range(size, 0, -_PIECE):
                crc = zlib.crc32(file.read(min(left, _PIECE)), crc)
        return crc

    def _moments_path(self, block: Block) -> Path:
        return self.folder / f"moments-{block.number:04d}"

    def _note(self, block: Block) -> Path:
        return self.folder / f"rows-{block.number:04d}.json"
