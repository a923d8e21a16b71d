"""Pictures of run folders as part of the page: read, made no larger than they are shown, written anew."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import attrs
from PIL import Image, UnidentifiedImageError

WIDEST = 1200
"""Pixels; a wider grid is made smaller."""

MOST = 64_000_000
"""Pixels of a file that is opened at all."""


@attrs.frozen(kw_only=True)
class Embedded:
    """A picture that the page holds itself."""

    source: str
    """A data: address."""

    width: int
    height: int


def embed(file: Path) -> Embedded:
    """Read a PNG and write it anew, so that nothing but its pixels gets into the page.

    Raises:
        ValueError: No PNG, or a very large one.
    """
    try:
        with Image.open(file, formats=["PNG"]) as found:
            if found.width * found.height > MOST:
                raise ValueError(f"{file} has {found.width} × {found.height} pixels, too many for a page")
            picture = found.convert("RGB" if found.mode not in ("L", "1") else "L")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file} is no PNG that can be read: {error}") from error
    if picture.width > WIDEST:
        height = max(1, round(picture.height * WIDEST / picture.width))
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Embedded(source=f"data:image/png;base64,{text}", width=picture.width, height=picture.height)
