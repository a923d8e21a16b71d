"""Single pictures: ADM's crop against an independent resampling, every mode, damage, bombs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from source_parts import encode, pixels

from genmem.contracts import UnreadablePicture
from genmem_sources import pictures
from genmem_sources.cropping import crop_centre
from genmem_sources.pictures import decode_picture, is_picture

Kernel = Callable[[np.ndarray], np.ndarray]


def box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(float)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resample(picture: np.ndarray, size: int, axis: int, kernel: Kernel, support: float) -> np.ndarray:
    """One axis of a picture to another size; the kernel is stretched when the picture shrinks."""
    old = picture.shape[axis]
    stretch = max(old / size, 1.0)
    rows = []
    for i in range(size):
        centre = (i + 0.5) * old / size
        at = np.arange(old)
        inside = (at + 0.5 > centre - support * stretch - 0.5) & (at < centre + support * stretch + 0.5)
        weight = kernel((at + 0.5 - centre) / stretch) * inside
        rows.append(np.tensordot(picture.astype(float), weight / weight.sum(), (axis, 0)))
    return np.clip(np.floor(np.stack(rows, axis) + 0.5), 0, 255)


def crop_by_formula(picture: np.ndarray, size: int) -> np.ndarray:
    height, width = picture.shape[:2]
    while min(height, width) >= 2 * size:
        height, width = height // 2, width // 2
        picture = resample(resample(picture, width, 1, box, 0.5), height, 0, box, 0.5)
    scale = size / min(height, width)
    height, width = round(height * scale), round(width * scale)
    picture = resample(resample(picture, width, 1, cubic, 2.0), height, 0, cubic, 2.0)
    top, left = (height - size) // 2, (width - size) // 2
    return picture[top : top + size, left : left + size]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(39, 55, 16), (100, 70, 32), (20, 27, 32), (130, 300, 16), (33, 32, 32), (64, 65, 32), (95, 31, 16)],
)
def test_the_crop_is_that_of_the_formula(height: int, width: int, size: int) -> None:
    picture = pixels(height * width, height, width)
    found = np.asarray(crop_centre(Image.fromarray(picture), size)).astype(float)
    expected = crop_by_formula(picture, size)
    assert found.shape == (size, size, 3)
    # Pillow computes in fixed point, and rounds after each axis as the formula does.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02


def test_halving_is_the_rounded_mean_of_four() -> None:
    picture = pixels(1, 32, 48)
    found = np.asarray(crop_centre(Image.fromarray(picture), 16))
    wide = picture.astype(int)
    wide = (wide[:, ::2] + wide[:, 1::2] + 1) // 2
    halved = (wide[::2] + wide[1::2] + 1) // 2
    assert np.array_equal(found, halved[:, 4:20])


def test_a_square_of_the_size_asked_for_is_left_alone() -> None:
    assert np.array_equal(np.asarray(crop_centre(Image.fromarray(pixels(2, 16, 16)), 16)), pixels(2, 16, 16))


def test_an_odd_margin_is_larger_at_the_end() -> None:
    picture = np.zeros((8, 11, 3), np.uint8)
    picture[:, :, 0] = np.arange(11)
    found = np.asarray(crop_centre(Image.fromarray(picture), 8))
    assert found[0, :, 0].tolist() == list(range(1, 9))


def test_rgb_comes_back_as_it_was() -> None:
    assert np.array_equal(decode_picture(encode(pixels(3)), "a"), pixels(3))


def test_grey_palette_cmyk_and_transparent_pictures_become_rgb() -> None:
    grey = pixels(4)[..., 0]
    assert np.array_equal(decode_picture(encode(grey), "a"), np.repeat(grey[..., None], 3, 2))
    palette = Image.fromarray(pixels(5)).quantize(4)
    assert np.array_equal(decode_picture(encode(palette), "a"), np.asarray(palette.convert("RGB")))
    clear = np.concatenate([pixels(6), np.zeros((8, 8, 1), np.uint8)], 2)
    assert np.array_equal(decode_picture(encode(clear), "a"), pixels(6))
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 255, 51
    cyan = decode_picture(encode(Image.fromarray(ink, "CMYK"), "TIFF"), "a")
    assert np.array_equal(cyan, np.broadcast_to(np.array([0, 204, 204], np.uint8), (8, 8, 3)))


def test_one_channel_is_the_luma() -> None:
    luma = np.rint(pixels(7) @ np.array([0.299, 0.587, 0.114]))
    found = decode_picture(encode(pixels(7)), "a", channels=1)
    assert found.shape == (8, 8, 1)
    assert np.abs(found[..., 0] - luma).max() <= 1


def test_orientation_is_ignored_as_adm_does() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = encode(pixels(8, 8, 12), "PNG", exif=exif)
    assert decode_picture(turned, "a").shape == (8, 12, 3)


def test_sixteen_bits_of_grey_are_refused_by_name() -> None:
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    with pytest.raises(UnreadablePicture, match=r"x\.png: pixels of mode 'I;16', not 8 bits a channel"):
        decode_picture(encode(deep), "x.png")
    with pytest.raises(UnreadablePicture, match="mode 'F'"):
        decode_picture(encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "x")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncation_is_found_at_any_length(form: str) -> None:
    data = encode(pixels(9, 32, 32), form)
    for length in np.linspace(0, len(data) * 0.9, 12).astype(int):
        with pytest.raises(UnreadablePicture, match=r"cut.img: not a readable picture"):
            decode_picture(data[:length], "cut.img")


def test_other_formats_and_garbage_are_refused() -> None:
    for data in (
        b"",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        encode(pixels(1), "GIF"),
    ):
        with pytest.raises(UnreadablePicture, match="odd: not a readable picture"):
            decode_picture(data, "odd")


def png_of(width: int, height: int) -> bytes:
    """A PNG of that size, all black, which deflate makes tiny."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    assert pictures.MOST_PIXELS < 20000**2
    with pytest.raises(UnreadablePicture, match=r"bomb: (20000 x 20000 pixels|not a readable.*bomb)"):
        decode_picture(png_of(20000, 20000), "bomb")
    with pytest.raises(UnreadablePicture, match=r"bomb: 12000 x 12000 pixels; at most 134,217,728"):
        decode_picture(png_of(12000, 12000), "bomb")


def test_names_of_pictures_are_told_from_others() -> None:
    assert all(map(is_picture, ("a.JPEG", "b/c.Png", "d.webp")))
    assert not any(map(is_picture, ("a.txt", "png", "b.png.md5")))
