"""A tree of files in a folder, a tar or a zip: their names, and the bytes of each.

Nothing is extracted, and a name inside an archive is never used as a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zipfile
from pathlib import Path
from typing import Protocol

from genmem.contracts import UnreadablePicture
from genmem.data.format.tar import read_members
from genmem_sources.pictures import MOST_BYTES
from genmem_sources.unpacking import MOST_TIMES, map_file

ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_DEEPEST = 16
_DRIVE = re.compile(r"[A-Za-z]:")


class Files(Protocol):
    """Named files."""

    @property
    def path(self) -> Path:
        """The folder or archive."""

    @property
    def sizes(self) -> dict[str, int]:
        """{name: bytes}, names relative and with /, sorted."""

    def read(self, name: str) -> bytes:
        """The bytes of one file. Threads may call it at once.

        Raises:
            UnreadablePicture: It is damaged, or larger than a picture is.
        """

    def fingerprint(self) -> str:
        """sha256 in hex: of the archive, or of the list of names and sizes."""


def open_files(path: Path) -> Files:
    """The files in a folder or in an archive.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: No archive of a known kind, a damaged one, or names that are not plain.
    """
    if path.is_dir():
        return FolderFiles(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.name.lower().endswith(ARCHIVES):
        raise ValueError(f"{path}: expected a folder or an archive ({', '.join(ARCHIVES)})")
    return ZipFiles(path) if path.suffix.lower() == ".zip" else TarFiles(path)


class FolderFiles:
    """The files below a folder; links are followed, hidden files left alone."""

    def __init__(self, path: Path) -> None:
        """List them."""
        self.path = path
        self.sizes = dict(sorted(_walk(path, "", 0)))

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        _check_size(f"{self.path / name}", self.sizes[name])
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UnreadablePicture(f"{self.path / name}: {error}") from error

    def fingerprint(self) -> str:
        """sha256 of the names and sizes: reading every picture only for a hash would take hours."""
        lines = "".join(f"{name}\t{size}\n" for name, size in self.sizes.items())
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _walk(folder: Path, before: str, depth: int) -> list[tuple[str, int]]:
    if depth > _DEEPEST:
        raise ValueError(f"{folder}: more than {_DEEPEST} folders deep; does a link lead in a circle?")
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{before}{entry.name}"
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                found += _walk(folder / entry.name, f"{name}/", depth + 1)
            elif entry.is_file():
                found.append((name, entry.stat().st_size))
    return found


class TarFiles:
    """The files of a tar, which may be compressed."""

    def __init__(self, path: Path) -> None:
        """Read its headers."""
        self.path = path
        self._data = map_file(path)
        self._places: dict[str, tuple[int, int]] = {}
        for member in read_members(self._data, str(path)):
            name = _plain_name(member.name, path)
            if not _is_hidden(name):
                _refuse_double(name, self._places, path)
                self._places[name] = (member.offset, member.size)
        self.sizes = {name: self._places[name][1] for name in sorted(self._places)}

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        offset, size = self._places[name]
        _check_size(f"{self.path}: {name}", size)
        return bytes(self._data[offset : offset + size])

    def fingerprint(self) -> str:
        """sha256 of the archive."""
        return _hash(self.path)


class ZipFiles:
    """The files of a zip."""

    def __init__(self, path: Path) -> None:
        """Read its directory."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
        self._lock = threading.Lock()
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = _plain_name(info.filename, path)
            if not info.is_dir() and not _is_hidden(name):
                _refuse_double(name, self._members, path)
                self._members[name] = info
        self.sizes = {name: self._members[name].file_size for name in sorted(self._members)}

    def read(self, name: str) -> bytes:
        """The bytes of one file, unpacked within bounds."""
        info, where = self._members[name], f"{self.path}: {name}"
        _check_size(where, info.file_size)
        if info.file_size > MOST_TIMES * max(info.compress_size, 1024):
            raise UnreadablePicture(
                f"{where}: unpacks to {info.file_size:,} bytes, more than {MOST_TIMES} times its size"
            )
        try:
            with self._lock, self._zip.open(info) as file:
                return file.read(info.file_size)
        except Exception as error:
            raise UnreadablePicture(f"{where}: cannot be unpacked: {error}") from error

    def fingerprint(self) -> str:
        """sha256 of the archive."""
        return _hash(self.path)


def _plain_name(name: str, path: Path) -> str:
    """A name inside an archive, refused where it would lead out of a folder."""
    plain = name.removeprefix("./")
    parts = plain.rstrip("/").split("/")
    if plain and (".." in parts or "" in parts or "\\" in name or "\0" in name or _DRIVE.match(name)):
        raise ValueError(f"{path}: holds a file named {name!r}, which is no plain relative name")
    return plain


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _refuse_double(name: str, seen: object, path: Path) -> None:
    if name in seen:  # type: ignore[operator]
        raise ValueError(f"{path}: holds {name!r} twice")


def _check_size(where: str, size: int) -> None:
    if size > MOST_BYTES:
        raise UnreadablePicture(f"{where}: {size:,} bytes; a picture may have {MOST_BYTES:,}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
