"""Pictures that somebody names on a command line, brought to the shape of a set's.

Shapes: B pictures, H W C picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from genmem.data.errors import DataError

MOST_PIXELS = 1 << 28


def read_pictures(paths: Sequence[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (B, H, W, C): each upright, grey or RGB as C says, its middle scaled to H × W.

    Raises:
        FileNotFoundError: No such file.
        DataError: A file that is no picture, or a damaged one.
    """
    return np.stack([_read(path, shape) for path in paths])


def hash_pictures(paths: Sequence[Path]) -> tuple[str, ...]:
    """sha256 of each file."""
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such picture")
    try:
        with Image.open(path) as file:
            if file.width * file.height > MOST_PIXELS:
                raise DataError(f"{path}: {file.width} × {file.height} pixels are too many")
            upright = ImageOps.exif_transpose(file).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture that can be read ({error})") from error
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(fitted, np.uint8).reshape(height, width, channels)
