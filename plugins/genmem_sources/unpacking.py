"""A compressed file, unpacked into an unnamed temporary file, within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MOST_TIMES = 100
"""An archive may unpack to so many times its size: pictures hardly shrink, a bomb does."""

ALWAYS = 1 << 26
"""So many bytes are always allowed."""

_AT_ONCE = 1 << 20
_OPENERS: dict[bytes, Callable[[Path, str], Any]] = {
    b"\xfd7zXZ": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}


def map_file(path: Path) -> memoryview:
    """The bytes of a file, unpacked if it is compressed by xz, gzip or bzip2.

    A compressed file goes to a temporary file without a name, which is gone with the process; no file
    inside the archive ever gets a path.

    Raises:
        ValueError: It is damaged, or unpacks to more than it should.
    """
    with path.open("rb") as file:
        head = file.read(6)
        opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
        if opener is None:
            return _map(file)
        with tempfile.TemporaryFile() as unpacked:
            with opener(path, "rb") as packed:
                _unpack(packed, unpacked, path)
            unpacked.flush()
            return _map(unpacked)


def _map(file: IO[bytes]) -> memoryview:
    if file.seek(0, 2) == 0:
        return memoryview(b"")
    # Pages come and go with use: an archive may be larger than memory.
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _unpack(packed: IO[bytes], unpacked: IO[bytes], path: Path) -> None:
    limit = max(ALWAYS, MOST_TIMES * path.stat().st_size)
    size = 0
    try:
        while part := packed.read(_AT_ONCE):
            size += len(part)
            if size > limit:
                raise ValueError(
                    f"{path}: unpacks to more than {limit:,} bytes, {MOST_TIMES} times its size; "
                    "if it is sound, unpack it yourself and give the folder"
                )
            unpacked.write(part)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
