"""What a sampling job writes: PNG files, one ADM-style .npz, or tar shards. Complete or absent.

Pictures are uint8 (B, H, W, C).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image
from webdataset import TarWriter

Facts = list[dict[str, Any]]
"""For each picture what it was made from: label, row of the memory."""


class Output(Protocol):
    """Where the pictures of a job go, chunk by chunk, in any order and from any process."""

    def has(self, first: int, stop: int) -> bool:
        """Whether pictures first … stop - 1 are there, whole."""

    def write(self, first: int, pictures_BHWC: np.ndarray, facts: Facts) -> None:
        """Write one chunk; it is whole or not there at all."""

    def finish(self, num: int) -> None:
        """Called once, on one process, when every chunk is there."""


class PngFiles:
    """`DIR/000000.png`, one file a picture."""

    def __init__(self, folder: Path) -> None:
        """Into this folder."""
        self._folder = folder

    def has(self, first: int, stop: int) -> bool:
        """Whether every file is there."""
        return all(self._path(number).exists() for number in range(first, stop))

    def write(self, first: int, pictures_BHWC: np.ndarray, facts: Facts) -> None:
        """Write the files, each under its name only when it is whole."""
        for number, picture in enumerate(pictures_BHWC, first):
            _whole(self._path(number), partial(_write_bytes, encode_png(picture)))

    def finish(self, num: int) -> None:
        """Nothing is left to do."""

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.png"


class Npz:
    """`DIR/samples.npz` with `arr_0` (N, H, W, 3), as ADM's evaluator reads it; grey is tripled."""

    def __init__(self, folder: Path) -> None:
        """Into this folder; parts wait in a folder beside it until all are there."""
        self._parts = folder / ".parts"
        self._final = folder / "samples.npz"

    def has(self, first: int, stop: int) -> bool:
        """Whether the part is there."""
        return self._part(first, stop).exists()

    def write(self, first: int, pictures_BHWC: np.ndarray, facts: Facts) -> None:
        """Write the part."""
        self._parts.mkdir(exist_ok=True)
        coloured = np.broadcast_to(pictures_BHWC, (*pictures_BHWC.shape[:3], 3))
        _whole(self._part(first, first + len(coloured)), lambda file: np.save(file, coloured))

    def finish(self, num: int) -> None:
        """Join the parts in order of their numbers, one in memory at a time."""
        parts = sorted(self._parts.glob("*.npy"))
        shapes = [np.load(part, mmap_mode="r").shape for part in parts]
        header = {"descr": "|u1", "fortran_order": False, "shape": (num, *shapes[0][1:])}

        def join(file: IO[bytes]) -> None:
            with (
                zipfile.ZipFile(file, "w") as archive,
                archive.open("arr_0.npy", "w", force_zip64=True) as array,
            ):
                np.lib.format.write_array_header_1_0(array, header)
                for part in parts:
                    array.write(np.load(part).tobytes())

        _whole(self._final, join)

    def _part(self, first: int, stop: int) -> Path:
        return self._parts / f"{first:09d}-{stop:09d}.npy"


class TarShards:
    """`DIR/000000000.tar`, one a chunk, WebDataset's layout: number.png and number.json."""

    def __init__(self, folder: Path) -> None:
        """Into this folder."""
        self._folder = folder

    def has(self, first: int, stop: int) -> bool:
        """Whether the shard is there."""
        return self._path(first, stop).exists()

    def write(self, first: int, pictures_BHWC: np.ndarray, facts: Facts) -> None:
        """Write the shard."""

        def fill(file: IO[bytes]) -> None:
            with TarWriter(file, mtime=0) as tar:
                for number, (picture, fact) in enumerate(zip(pictures_BHWC, facts, strict=True), first):
                    record = json.dumps({"index": number, **fact}).encode()
                    tar.write({"__key__": f"{number:09d}", "png": encode_png(picture), "json": record})

        _whole(self._path(first, first + len(pictures_BHWC)), fill)

    def finish(self, num: int) -> None:
        """Nothing is left to do."""

    def _path(self, first: int, stop: int) -> Path:
        return self._folder / f"{first:09d}-{stop:09d}.tar"


FORMATS: dict[str, type[PngFiles] | type[Npz] | type[TarShards]] = {
    "png": PngFiles,
    "npz": Npz,
    "tar": TarShards,
}


def encode_png(picture_HWC: np.ndarray) -> bytes:
    """One picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC.squeeze(2) if picture_HWC.shape[2] == 1 else picture_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def _write_bytes(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _whole(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name and rename it when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        fill(file)
    partial.rename(path)
