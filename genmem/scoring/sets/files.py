"""Pictures in files: a folder of them with all its subfolders, or tar shards.

Shapes: B pictures asked for, H W C picture.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from genmem.data.format.tar import read_members

SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 1 << 27
_PEEKED = 16
_GRID = "grid.png"
_JOB = "job.json"
"""A folder that `genmem sample` wrote has this, and a grid of its first pictures."""


class _File(NamedTuple):
    where: str
    content: Callable[[], bytes]


class FilePictures:
    """Pictures that are decoded when they are read."""

    def __init__(self, name: str, files: Sequence[_File]) -> None:
        """Looks at a few of them to learn their shape; grey if all of those are."""
        self.name, self._files = name, files
        spread = np.linspace(0, len(files) - 1, min(_PEEKED, len(files))).astype(int)
        peeked = [_decode(files[number]) for number in spread]
        self._channels = max(picture.shape[2] for picture in peeked)
        height, width = peeked[0].shape[:2]
        self.shape = (height, width, self._channels)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C).

        Raises:
            ValueError: A file that is no picture, or is of another size than the first.
        """
        return np.stack([self._read(self._files[number]) for number in numbers_B])

    def _read(self, file: _File) -> np.ndarray:
        picture = _decode(file)
        if picture.shape[:2] != self.shape[:2]:
            raise ValueError(
                f"{file.where}: {_size(picture.shape)}, the first picture of {self.name} is "
                f"{_size(self.shape)}; scores need pictures of one size: crop or resize them first"
            )
        if picture.shape[2] > self._channels:
            raise ValueError(
                f"{file.where}: has colours, where those looked at first are grey; make them all alike"
            )
        return np.broadcast_to(picture, self.shape)


def open_folder(path: Path) -> FilePictures:
    """Every .png, .jpg and .jpeg below `path`, in the order of their names.

    Raises:
        ValueError: There are none.
    """
    ours = (path / _JOB).is_file()
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and not (ours and file == path / _GRID)
    ]
    if not found:
        raise ValueError(f"{path}: no pictures in it or below it; .png, .jpg and .jpeg are read")
    return FilePictures(str(path), [_File(str(file), file.read_bytes) for file in found])


def open_shards(path: Path, tars: Sequence[Path]) -> FilePictures:
    """Every picture in these tars, in their order.

    Raises:
        genmem.data.errors.DataError: A damaged tar.
        ValueError: There are no pictures.
    """
    files = []
    for tar in tars:
        data = _map(tar)
        for member in read_members(data, str(tar)):
            if member.name.lower().endswith(SUFFIXES):
                part = data[member.offset : member.offset + member.size]
                files.append(_File(f"{tar}: {member.name}", part.tobytes))
    if not files:
        raise ValueError(f"{path}: no pictures in its tars; .png, .jpg and .jpeg are read")
    return FilePictures(str(path), files)


def _map(tar: Path) -> memoryview:
    with tar.open("rb") as file:
        if not tar.stat().st_size:
            raise ValueError(f"{tar}: is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _decode(file: _File) -> np.ndarray:
    """uint8 (H, W, 1 or 3), as stored; palettes become colours."""
    try:
        with Image.open(io.BytesIO(file.content()), formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width} × {opened.height} pixels are too many")
            if opened.mode not in ("L", "RGB", "P"):
                raise ValueError(f"pixels are {opened.mode!r}; 8-bit grey or RGB is read: convert it")
            picture = np.asarray(opened.convert("RGB") if opened.mode == "P" else opened, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file.where}: no picture that can be scored ({error})") from error
    return picture[..., None] if picture.ndim == 2 else picture


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} × {shape[1]}"
