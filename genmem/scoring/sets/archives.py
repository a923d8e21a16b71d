"""ADM-style .npz files: pictures in `arr_0`, statistics in `mu` and `sigma`. Nothing in them is run.

Shapes: N pictures, H W C picture.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

PICTURES = "arr_0"
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Archive:
    """The arrays of an .npz file, by name; headers are read at once, arrays when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read the headers.

        Raises:
            FileNotFoundError: No such file.
            ValueError: No .npz file, or one with Python objects in it.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                self.headers = {name[:-4]: self._header(archive, name) for name in names}
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"{path}: no .npz file, or a damaged one ({error})") from error

    def array(self, name: str) -> np.ndarray:
        """One array, whole."""
        shape, dtype, offset = self.headers[name]
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            file.seek(offset)
            return self._values(file, name, shape, dtype)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start … stop - 1 of an array."""
        shape, dtype, offset = self.headers[name]
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            file.seek(offset + start * int(np.prod(shape[1:])) * dtype.itemsize)
            return self._values(file, name, (stop - start, *shape[1:]), dtype)

    def _header(self, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        with archive.open(name) as file:
            try:
                version = np.lib.format.read_magic(file)
                shape, fortran, dtype = _READERS[version](file)
            except (ValueError, KeyError) as error:
                raise ValueError(f"{self.path}: {name} is no array that can be read ({error})") from error
            if dtype.hasobject:
                raise ValueError(f"{self.path}: {name} holds Python objects, which are never unpickled")
            if fortran and len(shape) > 1 and not name.startswith(("mu", "sigma")):
                raise ValueError(f"{self.path}: {name} is laid out column by column; save it as numpy does")
            return shape, dtype, file.tell()

    def _values(self, file: IO[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        wanted = int(np.prod(shape)) * dtype.itemsize
        content = file.read(wanted)
        if len(content) != wanted:
            raise ValueError(f"{self.path}: {name} ends early: {len(content):,} of {wanted:,} bytes")
        return np.frombuffer(content, dtype).reshape(shape)


class ArchivePictures:
    """The pictures in `arr_0`."""

    def __init__(self, archive: Archive) -> None:
        """Refuses whatever is not uint8 (N, H, W, 1 or 3).

        Raises:
            ValueError: No pictures; the arrays there are are named.
        """
        self.name, self._archive = str(archive.path), archive
        if PICTURES not in archive.headers:
            raise ValueError(
                f"{archive.path}: has {sorted(archive.headers)}, no {PICTURES!r}: no pictures; "
                "statistics (mu, sigma) go with --reference"
            )
        shape, dtype, _ = archive.headers[PICTURES]
        if dtype != np.uint8:
            raise ValueError(
                f"{archive.path}: {PICTURES} is {dtype}, pictures are uint8: clamp and round them to "
                "0 … 255 before they are saved"
            )
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
            raise ValueError(f"{archive.path}: {PICTURES} is {shape}, expected (N, H, W, 1 or 3), N > 0")
        self._count, self.shape = shape[0], (shape[1], shape[2], shape[3])

    def __len__(self) -> int:
        return self._count

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C)."""
        if not len(numbers_B):
            return np.empty((0, *self.shape), np.uint8)
        first, stop = int(numbers_B.min()), int(numbers_B.max()) + 1
        found: np.ndarray = self._archive.rows(PICTURES, first, stop)[numbers_B - first]
        return found
