"""A set at a URL, opened through a folder of its small files and a cache of its shards.

The address is that of the set's folder: beneath it lie train/ and test/, as `genmem data prepare`
made them. Manifests are read every time; what they list is told apart by its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from genmem.data.errors import DamagedFile, DamagedShard, DataError
from genmem.data.files import hash_file, replace_file
from genmem.data.format.index import INDEX
from genmem.data.format.manifest import MANIFEST, Manifest, Shard
from genmem.data.format.manifest_file import LARGEST, load_manifest
from genmem.data.states import state_path
from genmem.data.streaming.cache import Cache
from genmem.data.streaming.remote import download, read_url
from genmem.data.streaming.storage import LocalFolder, OpenFile

_LARGEST_FILE = 1 << 36
"""Bytes of an index or of an encoder's weights; the disk is full before."""


class RemoteShards:
    """A split's shards, fetched into a cache as they are wanted."""

    is_local = False

    def __init__(self, url: str, manifest: Manifest, cache: Cache, wait_s: float = 1.0) -> None:
        """The shards beneath `url`."""
        self.url, self.cache, self._wait_s = url, cache, wait_s
        self.largest = max((shard.bytes for shard in manifest.shards), default=1)
        # An open file keeps its place on the disk after eviction, so few are kept open.
        self.most_open = max(1, min(LocalFolder(Path()).most_open, cache.limit // (2 * self.largest)))

    def open(self, shard: Shard) -> OpenFile:
        """The shard, from the cache or from its URL."""
        url = f"{self.url}/{shard.name}"
        return self.cache.open(
            shard, lambda path: download(url, path, shard.bytes, shard.sha256, shard.bytes, self._wait_s)
        )

    def find_missing(self, shards: Sequence[Shard]) -> list[DamagedShard]:
        """None: nobody asks for a shard before it is wanted."""
        return []

    def expect(self, shards: int) -> None:
        """Those in use and those that follow must fit into the cache."""
        needed = 2 * shards * self.largest
        if needed > self.cache.limit:
            raise DataError(
                f"{self.url}: {shards} shards are in use at once (data.window, for each lane of this "
                f"process), and as many are fetched meanwhile: {needed} bytes, but data.cache_bytes = "
                f"{self.cache.limit}; allow more, or make the window smaller"
            )


class Mirror:
    """The folder that stands for a set at a URL."""

    def __init__(self, url: str, cache: Cache, splits: tuple[str, ...], wait_s: float = 1.0) -> None:
        """Fetch manifests, indexes and what encoders learned.

        Raises:
            DataError: What is not there, cannot be had, or is wrong; the URL is named.
        """
        self.url, self.cache, self._wait_s = url.rstrip("/"), cache, wait_s
        texts = {split: read_url(f"{self.url}/{split}/{MANIFEST}", LARGEST, wait_s) for split in splits}
        name = hashlib.sha256(b"".join(texts.values())).hexdigest()
        self.folder = cache.folder / "sets" / name[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for split, text in texts.items():
                self._keep(split, text)

    def storage(self, split: str) -> RemoteShards:
        """Where the shards of a split lie."""
        manifest = load_manifest(self.folder / split)
        return RemoteShards(f"{self.url}/{split}", manifest, self.cache, self._wait_s)

    def _keep(self, split: str, text: bytes) -> None:
        folder = self.folder / split
        with replace_file(folder / MANIFEST) as file:
            file.write(text)
        try:
            manifest = load_manifest(folder)
        except DataError as error:
            raise DataError(f"{self.url}/{split}: {error}") from error
        self._fetch(f"{split}/{INDEX}", folder / INDEX, manifest.index)
        for name, encoder in manifest.encoders.items():
            if encoder.state:
                path = state_path(self.folder, name)
                # Some encoders come with their weights, and the set has only the hash of those.
                with suppress(DamagedFile):
                    self._fetch(str(path.relative_to(self.folder)), path, encoder.state)

    def _fetch(self, name: str, path: Path, sha256: str) -> None:
        if not path.is_file() or hash_file(path) != sha256:
            download(f"{self.url}/{name}", path, None, sha256, _LARGEST_FILE, self._wait_s)
