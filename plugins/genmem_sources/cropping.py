"""The centre crop of ADM, which DiT, SiT, REPA and LightningDiT share.

Published reference statistics belong to pictures that were cut this way; another resampling moves FID.
"""

from __future__ import annotations

from PIL import Image


def crop_centre(picture: Image.Image, size: int) -> Image.Image:
    """The middle square of a picture, `size` pixels a side.

    The picture is halved by a box filter while its short side is 2 · size or more, then brought to
    a short side of `size` by the bicubic filter (up as well as down), and cut. Half sizes are rounded
    down, the long side to the nearest even number where it is a half; an odd margin is larger at the
    bottom and on the right.
    """
    while min(picture.size) >= 2 * size:
        width, height = picture.size
        picture = _resize(picture, width // 2, height // 2, Image.Resampling.BOX)
    scale = size / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    picture = _resize(picture, width, height, Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _resize(picture: Image.Image, width: int, height: int, by: Image.Resampling) -> Image.Image:
    # Rows first, rounded, then columns, as Pillow did when reference statistics were made. Pillow 13
    # begins with the columns of tall pictures when it is left the choice.
    return picture.resize((width, picture.height), by).resize((width, height), by)
