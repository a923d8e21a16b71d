"""From the bytes of a picture file to uint8 pixels, or a refusal that names the file.

Shapes: H W C picture.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from genmem.contracts import UnreadablePicture
from genmem_sources.cropping import crop_centre

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
"""What counts as a picture, in any case of letters."""

MOST_BYTES = 1 << 28
"""A picture file may have; checked before it is read."""

MOST_PIXELS = 1 << 27
"""A picture may have; checked before it is decoded, so that no small file unfolds into gigabytes."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_MODE = {1: "L", 3: "RGB"}


def is_picture(name: str) -> bool:
    """Whether a file's name ends like that of a picture."""
    return name.lower().endswith(SUFFIXES)


def decode_picture(
    data: bytes, where: str, *, channels: int = 3, resolution: int | None = None
) -> np.ndarray:
    """uint8 (H, W, C).

    Grey, palette and CMYK pictures become RGB, transparency is left out, and the orientation that EXIF
    gives is ignored: all as ADM's preprocessing does. With one channel, colours become their luma.

    Args:
        data: The file.
        where: Names it in errors.
        channels: 3 or 1.
        resolution: Side of the centre crop; the picture as it is if absent.

    Raises:
        UnreadablePicture: Damaged, too large, of another format, or with more than 8 bits a channel
            where that cannot be told without loss.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check(file, where)
            picture = file.convert(_MODE[channels])
    except UnreadablePicture:
        raise
    # Decoders of damaged files raise whatever they run into.
    except Exception as error:
        raise UnreadablePicture(f"{where}: not a readable picture: {error}") from error
    pixels = np.asarray(picture if resolution is None else crop_centre(picture, resolution))
    return pixels[..., None] if channels == 1 else pixels


def _check(picture: Image.Image, where: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise UnreadablePicture(f"{where}: {width} x {height} pixels; at most {MOST_PIXELS:,} are read")
    if picture.mode not in _EIGHT_BIT:
        raise UnreadablePicture(
            f"{where}: pixels of mode {picture.mode!r}, not 8 bits a channel; convert it first"
        )
