"""A split, opened: any sample's fields by number, without parsing a header.

Records are read with `preadv` into their place in the batch. Mapped memory would be a little faster,
but a file that shrinks under a map, or a disk that fails, ends the process without a word.

Shapes: B samples asked for, N samples of the split, S shards.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmem.data.errors import DamagedFile, DamagedSample, DamagedShard, DataError
from genmem.data.files import hash_file
from genmem.data.format.fields import member_of
from genmem.data.format.index import INDEX, Index, load_index
from genmem.data.format.inspection import BLOCK, SKIP, check_index, name_sample
from genmem.data.format.manifest import MANIFEST, Manifest
from genmem.data.format.manifest_file import load_manifest
from genmem.data.format.rebuilding import ensure_index, ensure_manifest
from genmem.data.format.tar import read_header_name
from genmem.data.streaming.reading import Stretch, plan_stretches
from genmem.data.streaming.storage import LocalFolder, OpenFile, OpenFiles, Storage


class ShardSet:
    """The samples of one split. Threads may read at once; nothing is written."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        index: Index,
        *,
        check: bool = False,
        tolerant: bool = False,
        storage: Storage | None = None,
    ) -> None:
        """Samples of a split, as its manifest and index describe them.

        Args:
            folder: Where manifest and index lie.
            manifest: Its manifest.
            index: Its offset index.
            check: Compare every record read with its checksum.
            tolerant: Open it although shards are missing or have another size.
            storage: Where the tars lie; `folder` if absent.

        Raises:
            DataError: An index that does not fit; unless tolerant, a shard that is missing or has
                another size.
        """
        check_index(folder, manifest, index)
        self.folder, self.manifest, self.index, self.check = folder, manifest, index, check
        self.storage = storage or LocalFolder(folder)
        self.counts = tuple(shard.samples for shard in manifest.shards)
        self._first_S = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self._files = OpenFiles(self.storage.most_open, self._open)
        self.unreadable = self.storage.find_missing(manifest.shards)
        """What is wrong with shards that are known not to be there."""
        if self.unreadable and not tolerant:
            raise self.unreadable[0]

    @classmethod
    def open(
        cls, folder: Path, *, check: bool = False, tolerant: bool = False, storage: Storage | None = None
    ) -> ShardSet:
        """Open a split folder; a missing index, or one and the manifest, is made from the tars.

        Raises:
            DataError: What is missing or does not fit, by name.
        """
        ensure_manifest(folder)
        manifest = load_manifest(folder)
        if storage is None:
            ensure_index(folder, manifest)
        if (found := hash_file(folder / INDEX)) != manifest.index:
            raise DataError(
                f"{folder / INDEX}: sha256 {found}, {MANIFEST} says {manifest.index}; "
                "delete it to have it made again from the shards"
            )
        return cls(folder, manifest, load_index(folder), check=check, tolerant=tolerant, storage=storage)

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

    def shard_of(self, number_B: np.ndarray) -> np.ndarray:
        """(B,) int64: places in the manifest of the shards that hold these samples."""
        shard_B: np.ndarray = np.searchsorted(self._first_S, number_B, side="right") - 1
        return shard_B

    def span(self, shard: int) -> range:
        """Numbers of a shard's samples."""
        return range(int(self._first_S[shard]), int(self._first_S[shard + 1]))

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
            DataError: A shard that is damaged or cannot be read; shard and sample are named.
        """
        return self.read_fields((field,), number_B, view_B)[field]

    def read_fields(
        self, fields: Sequence[str], number_B: np.ndarray, view_B: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """The same of several fields; together they cost little more than one.

        Raises:
            KeyError, IndexError, DataError: As `read`.
        """
        number_B = self._valid(number_B)
        view_B = self._valid_views(number_B, view_B)
        forms = {field: self.manifest.form(field) for field in fields}
        values: dict[str, np.ndarray] = {}
        for stretch in plan_stretches({f: self._offsets(f, number_B, view_B) for f in fields}, forms):
            raw = stretch.reserve()
            if (short := self._gather(number_B, stretch, raw)) is not None:
                row, field = short[0], stretch.lost(short[1], forms)
                raise self._damaged(field, int(number_B[row]), int(view_B[row]), "truncated: the shard ends")
            values |= {field: stretch.values(raw, field, forms[field]) for field in stretch.place}
        if self.check:
            for field in fields:
                self._check_records(field, number_B, view_B, values[field])
        return values

    def _gather(self, number_B: np.ndarray, stretch: Stretch, raw: np.ndarray) -> tuple[int, int] | None:
        """Read every sample's stretch into its row; where a file ends too early, the row and its bytes."""
        target, size, length = raw.reshape(-1).data, stretch.size, raw.shape[1]
        shard_B = self.shard_of(number_B)
        # Shard by shard, so that each is opened once.
        row_B, opened = np.argsort(shard_B, kind="stable"), -1
        places = (row_B, shard_B[row_B], stretch.offset_B[row_B])
        for row, shard, offset in zip(*(place.tolist() for place in places), strict=True):
            if shard != opened:
                file, opened = self._files[shard], shard
            try:
                found = os.preadv(file.number, [target[row * length : row * length + size]], offset)
            except OSError as error:
                raise DataError(f"{self._name(int(number_B[row]))}: cannot be read: {error}") from error
            if found != size:
                return row, found
        return None

    def fetch(self, number_B: np.ndarray) -> None:
        """Have the shards of these samples at hand. What cannot be had is for `read` to say."""
        for shard in np.unique(self.shard_of(number_B)).tolist():
            try:
                self._files[shard]
            except DataError:
                continue

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

    def _open(self, shard: int) -> OpenFile:
        try:
            file = self.storage.open(self.manifest.shards[shard])
            for number in self.span(shard)[:: max(1, len(self.span(shard)) - 1)]:
                self._check_name(file, number)
        except DamagedFile as error:
            raise DamagedShard(str(error), shard) from error
        return file

    def _check_name(self, file: OpenFile, number: int) -> None:
        """A shard of the right size may be another one: the sample's name must stand in front of it."""
        member, places = next(iter(self.index.fields.items()))
        offset = int(places.offset_N[number])
        header = memoryview(os.pread(file.number, BLOCK, offset - BLOCK).ljust(BLOCK, b"\0"))
        found = read_header_name(header)
        expected = f"{self.index.key_N[number].decode()}.{member}"
        if found.removeprefix("./") != expected:
            raise DamagedFile(
                f"{self._name(number)}: expected {expected!r} at "
                f"byte {offset}, found {found!r}; this is not the shard that {MANIFEST} describes"
            )

    def _check_records(
        self, field: str, number_B: np.ndarray, view_B: np.ndarray, values: np.ndarray
    ) -> None:
        raw = values.reshape(len(values), math.prod(values.shape[1:])).view(np.uint8)
        for i, (number, view) in enumerate(zip(number_B.tolist(), view_B.tolist(), strict=True)):
            places = self.index.fields[member_of(field, view)]
            if zlib.crc32(raw[i], zlib.crc32(places.header)) != places.crc_N[number]:
                raise self._damaged(field, number, view, "damaged: its checksum differs")

    def _damaged(self, field: str, number: int, view: int, problem: str) -> DamagedSample:
        where = f"{self._name(number)}: {member_of(field, view)}"
        return DamagedSample(f"{where}: {problem}; restore the shard; {SKIP}", number, view)

    def _name(self, number: int) -> str:
        return name_sample(self.folder, self.manifest, self.index, number)
