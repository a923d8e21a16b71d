"""Where a split's tars lie, and the open files that they are read through."""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from genmem.data.errors import DamagedFile, DamagedShard
from genmem.data.format.inspection import check_size
from genmem.data.format.manifest import Shard

_MOST_OPEN = 4096


class OpenFile:
    """A file open for reading; closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        """Open `path`."""
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        """Give the descriptor back."""
        if hasattr(self, "number"):
            os.close(self.number)


class Storage(Protocol):
    """Where shards come from."""

    is_local: bool
    """Whether all shards are here already."""

    most_open: int
    """Files to keep open at once."""

    def open(self, shard: Shard) -> OpenFile:
        """The shard's file, of the size that the manifest says.

        Raises:
            DamagedFile: It is missing, or another one.
            DataError: It cannot be had.
        """

    def find_missing(self, shards: Sequence[Shard]) -> list[DamagedShard]:
        """What is wrong with shards that are known not to be there, or not in full."""

    def expect(self, shards: int) -> None:
        """Be told how many shards will be in use at once.

        Raises:
            DataError: There is no room for so many.
        """


class LocalFolder:
    """Shards that lie in a folder."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        """The shards of `folder`."""
        self.folder = folder
        self.most_open = _share_of_descriptors()

    def open(self, shard: Shard) -> OpenFile:
        """The file in the folder."""
        path = self.folder / shard.name
        check_size(path, shard.bytes)
        return OpenFile(path)

    def find_missing(self, shards: Sequence[Shard]) -> list[DamagedShard]:
        """Those that have no file, or one of another size."""
        found = []
        for number, shard in enumerate(shards):
            try:
                check_size(self.folder / shard.name, shard.bytes)
            except DamagedFile as error:
                found.append(DamagedShard(str(error), number))
        return found

    def expect(self, shards: int) -> None:
        """All of them are here."""


class OpenFiles:
    """The files used last, by number. Threads may ask at once."""

    def __init__(self, most: int, open_file: Callable[[int], OpenFile]) -> None:
        """At most `most` files, each had from `open_file`."""
        self._most, self._open_file = most, open_file
        self._files: OrderedDict[int, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> OpenFile:
        with self._lock:
            if number in self._files:
                self._files.move_to_end(number)
                return self._files[number]
        # Not under the lock: it may take a download, and others read on meanwhile.
        file = self._open_file(number)
        with self._lock:
            self._files[number] = file
            while len(self._files) > self._most:
                self._files.popitem(last=False)
        return file


def _share_of_descriptors() -> int:
    """A quarter: the rest of the process, and other sets that it has open, need some too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if limit == resource.RLIM_INFINITY else max(16, min(_MOST_OPEN, limit // 4))
