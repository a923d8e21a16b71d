"""A bounded folder of shards fetched from elsewhere, shared by any number of processes.

A shard's name in the cache is the hash of its content, so sets and runs share what they have in
common, and what was uploaded anew is never mistaken for what was there before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from genmem.data.errors import DataError
from genmem.data.format.manifest import Shard
from genmem.data.streaming.storage import OpenFile

_WHOLE, _ROOM, _FETCHING = ".tar", ".room", ".fetching"


class Cache:
    """At most `limit` bytes of shards; those used longest ago make room for others."""

    def __init__(self, folder: Path, limit: int) -> None:
        """A cache in `folder`, which is made if it is missing."""
        self.folder, self.limit = folder, limit
        self._shards, self._locks = folder / "shards", folder / "locks"
        for path in (self._shards, self._locks):
            path.mkdir(parents=True, exist_ok=True)

    def open(self, shard: Shard, download: Callable[[Path], None]) -> OpenFile:
        """The shard, open; fetched by `download`, which is given its name, unless it is here.

        One process fetches a shard, others that want it wait. An open file outlives its eviction.

        Raises:
            DataError: It is larger than the cache, or what `download` raises.
        """
        path = self._shards / f"{shard.sha256}.{shard.bytes}{_WHOLE}"
        while (file := _open(path, shard.bytes)) is None:
            with self._lock_of(shard.sha256):
                if not path.is_file():
                    self._fetch(path, shard, download)
        return file

    def _lock_of(self, sha256: str) -> FileLock:
        return FileLock(self._locks / sha256[:2])

    def _lock_room(self) -> FileLock:
        return FileLock(self._locks / "room")

    def _fetch(self, path: Path, shard: Shard, download: Callable[[Path], None]) -> None:
        self._make_room(path, shard)
        fetching = path.with_suffix(_FETCHING)
        try:
            download(fetching)
        finally:
            # Under the lock, so that whoever counts sees the room that is kept, or the shard.
            with self._lock_room():
                if fetching.is_file():
                    fetching.replace(path)
                path.with_suffix(_ROOM).unlink(missing_ok=True)

    def _make_room(self, path: Path, shard: Shard) -> None:
        """Evict until there is room, and keep it by a file that stands for the shard."""
        if shard.bytes > self.limit:
            raise DataError(
                f"{shard.name}: {shard.bytes} bytes, the cache holds data.cache_bytes = {self.limit}; "
                "allow it more"
            )
        while True:
            with self._lock_room():
                if self._evict(self.limit - shard.bytes):
                    path.with_suffix(_ROOM).touch()
                    return
            # What fills the cache is being fetched; when it is whole it can be evicted.
            time.sleep(0.05)

    def _evict(self, allowed: int) -> bool:
        """Remove shards until no more than `allowed` bytes are left; whether that could be done."""
        held: dict[tuple[str, int], list[Path]] = {}
        for path in self._shards.iterdir():
            sha256, text = path.name.split(".")[:2]
            held.setdefault((sha256, int(text)), []).append(path)
        total = sum(size for _, size in held)
        for (sha256, size), paths in sorted(held.items(), key=lambda item: max(map(_last_used, item[1]))):
            if total <= allowed:
                break
            if any(path.suffix == _WHOLE for path in paths) or self._is_abandoned(sha256):
                for path in paths:
                    path.unlink(missing_ok=True)
                total -= size
        return total <= allowed

    def _is_abandoned(self, sha256: str) -> bool:
        """Whether whoever was fetching it is gone: a lock ends with its process."""
        lock = self._lock_of(sha256)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True


def _last_used(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _open(path: Path, size: int) -> OpenFile | None:
    """The file, marked as used now; None where it is not there, or not whole."""
    try:
        file = OpenFile(path)
        now = time.time_ns()
        # Given, since a kernel's own clock for this may tick too rarely to tell two uses apart.
        os.utime(path, ns=(now, now))
    except FileNotFoundError:
        return None
    if os.fstat(file.number).st_size == size:
        return file
    path.unlink(missing_ok=True)
    return None
