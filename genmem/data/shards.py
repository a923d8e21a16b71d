"""A split folder, opened: any sample's fields by number, without parsing a header.

Shapes: B samples asked for, N samples of the split, S shards.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from genmem.data.errors import DataError
from genmem.data.fields import member_of
from genmem.data.files import hash_file
from genmem.data.index import INDEX, Index, load_index
from genmem.data.inspection import BLOCK, check_size, check_split, name_sample, record_size
from genmem.data.manifest import MANIFEST, Manifest
from genmem.data.manifest_file import load_manifest
from genmem.data.tar import read_header_name


class ShardSet:
    """The samples of one split. Threads may read at once; nothing is written."""

    def __init__(self, folder: Path, manifest: Manifest, index: Index, *, check: bool = False) -> None:
        """Samples of `folder`, as its manifest and index describe them.

        Args:
            folder: Where the tars lie.
            manifest: Its manifest.
            index: Its offset index.
            check: Compare every record read with its checksum.

        Raises:
            DataError: A missing shard, one of another size, an index that does not fit.
        """
        check_split(folder, manifest, index)
        self.folder, self.manifest, self.index, self.check = folder, manifest, index, check
        self.counts = tuple(shard.samples for shard in manifest.shards)
        self._first_S = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self._maps: dict[int, memoryview] = {}

    @classmethod
    def open(cls, folder: Path, *, check: bool = False) -> ShardSet:
        """Open a split folder.

        Raises:
            DataError: What is missing or does not fit, by name.
        """
        manifest, index = load_manifest(folder), load_index(folder)
        if (found := hash_file(folder / INDEX)) != manifest.index:
            raise DataError(
                f"{folder / INDEX}: sha256 {found}, {MANIFEST} says {manifest.index}; "
                "delete the set and prepare it again"
            )
        return cls(folder, manifest, index, check=check)

    def __len__(self) -> int:
        return int(self._first_S[-1])

    @property
    def views(self) -> int:
        """1, or 2 where every field has a mirrored twin."""
        return self.manifest.views

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the per-sample features."""
        return tuple(self.manifest.features)

    def labels(self, number_B: np.ndarray) -> np.ndarray:
        """(B,) int64; -1 where the set has none."""
        labels_B: np.ndarray = self.index.label_N[self._valid(number_B)]
        return labels_B

    def read(self, field: str, number_B: np.ndarray, view_B: np.ndarray | None = None) -> np.ndarray:
        """(B, …) of "x" or a feature, as stored.

        Args:
            field: "x", or the name of a feature.
            number_B: Sample numbers, in any order.
            view_B: 0 plain, 1 mirrored, for each; plain if absent.

        Raises:
            KeyError: The set has no such field.
            IndexError: A number or view that is not there.
            DataError: A shard that is damaged; shard and sample are named.
        """
        number_B = self._valid(number_B)
        view_B = self._valid_views(number_B, view_B)
        form = self.manifest.form(field)
        out = np.empty((len(number_B), *form.shape), form.dtype)
        target, size, end = out.reshape(-1).view(np.uint8).data, record_size(form), 0
        shard_B = np.searchsorted(self._first_S, number_B, side="right") - 1
        offset_B = self._offsets(field, number_B, view_B)
        # One copy a sample, straight from mapped memory to its place in the batch.
        for shard, offset in zip(shard_B.tolist(), offset_B.tolist(), strict=True):
            target[end : end + size] = self._map(shard)[offset : offset + size]
            end += size
        if self.check:
            self._check_records(field, number_B, view_B, target)
        return out

    def _valid(self, number_B: np.ndarray) -> np.ndarray:
        number_B = np.asarray(number_B, np.int64)
        if len(number_B) and (number_B.min() < 0 or number_B.max() >= len(self)):
            raise IndexError(
                f"{self.folder}: samples {number_B.min()} … {number_B.max()} asked for, there are {len(self)}"
            )
        return number_B

    def _valid_views(self, number_B: np.ndarray, view_B: np.ndarray | None) -> np.ndarray:
        if view_B is None:
            return np.zeros_like(number_B)
        if len(view_B) and (view_B.min() < 0 or view_B.max() >= self.views):
            raise IndexError(
                f"{self.folder}: view {view_B.max()} asked for, the set has {self.views} (0 plain)"
            )
        return view_B

    def _offsets(self, field: str, number_B: np.ndarray, view_B: np.ndarray) -> np.ndarray:
        """Of the values, behind their headers."""
        offset_B = np.empty_like(number_B)
        for view in np.unique(view_B).tolist():
            places, rows = self.index.fields[member_of(field, view)], view_B == view
            offset_B[rows] = places.offset_N[number_B[rows]] + len(places.header)
        return offset_B

    def _map(self, shard: int) -> memoryview:
        if shard not in self._maps:
            self._maps[shard] = self._open(shard)
        return self._maps[shard]

    def _open(self, shard: int) -> memoryview:
        entry = self.manifest.shards[shard]
        path = self.folder / entry.name
        check_size(path, entry.bytes)
        # Unlike mmap, this keeps no descriptor open: a set may have more shards than a process has those.
        data = torch.from_file(str(path), shared=False, size=entry.bytes, dtype=torch.uint8)
        view = memoryview(data.numpy().data).toreadonly()
        for number in (int(self._first_S[shard]), int(self._first_S[shard + 1]) - 1):
            self._check_name(view, number)
        return view

    def _check_name(self, view: memoryview, number: int) -> None:
        """A shard of the right size may be another one: the sample's name must stand in front of it."""
        member, places = next(iter(self.index.fields.items()))
        offset = int(places.offset_N[number])
        found = read_header_name(view[offset - BLOCK : offset])
        expected = f"{self.index.key_N[number].decode()}.{member}"
        if found.removeprefix("./") != expected:
            raise DataError(
                f"{name_sample(self.folder, self.manifest, self.index, number)}: expected {expected!r} at "
                f"byte {offset}, found {found!r}; this is not the shard that {MANIFEST} describes"
            )

    def _check_records(
        self, field: str, number_B: np.ndarray, view_B: np.ndarray, values: memoryview
    ) -> None:
        size = record_size(self.manifest.form(field))
        for i, (number, view) in enumerate(zip(number_B.tolist(), view_B.tolist(), strict=True)):
            places = self.index.fields[member_of(field, view)]
            if (
                zlib.crc32(values[i * size : (i + 1) * size], zlib.crc32(places.header))
                != places.crc_N[number]
            ):
                where = name_sample(self.folder, self.manifest, self.index, number)
                raise DataError(f"{where}: {member_of(field, view)}: damaged: its checksum differs")
