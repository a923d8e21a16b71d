"""A line of text above a picture, in the font that comes with Pillow."""

from __future__ import annotations

import math
from itertools import accumulate

from PIL import Image, ImageDraw, ImageFont

SIZE = 13
"""Pixels: one of the sizes at which a colon touches no letter before it."""

_BACKGROUND = 96
_MARGIN = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def caption_above(sheet: Image.Image, caption: str) -> Image.Image:
    """The sheet under the text, widened where the text is longer. Letters are as `spell` gives them."""
    font, caption = _font(), spell(caption)
    # Letter by letter: what kerning would put together runs together at this size.
    steps = [math.ceil(font.getlength(letter)) for letter in caption]
    _, top, _, bottom = font.getbbox(caption)
    room = math.ceil(bottom - top) + 2 * _MARGIN
    size = (max(sheet.width, sum(steps) + 2 * _MARGIN), sheet.height + room)
    out = Image.new("RGB", size, (_BACKGROUND,) * 3)
    out.paste(sheet, (0, room))
    draw = ImageDraw.Draw(out)
    for letter, left in zip(caption, accumulate(steps, initial=_MARGIN), strict=False):
        draw.text((left, _MARGIN - top), letter, font=font, fill="white")
    return out


def spell(text: str) -> str:
    """The text with every letter that the font has no shape for as its code, "\\u4e09" say."""
    font = _font()
    blank = _shape("\uffff", font)
    return "".join(
        letter
        if letter.isprintable() and _shape(letter, font) != blank
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _font() -> Font:
    return ImageFont.load_default(size=SIZE)


def _shape(letter: str, font: Font) -> tuple[object, ...]:
    return (*font.getbbox(letter), bytes(font.getmask(letter)))
