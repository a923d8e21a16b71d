"""Grids, pairs and the notebook's pictures, pixel by pixel."""

import io
from pathlib import Path
from string import ascii_letters, digits

import numpy as np
import pytest
from PIL import Image

from genmem.captions import caption_above, spell
from genmem.pictures import Pictures, beside, check_pictures, grid

BACKGROUND = 96


def pictures(count: int, height: int = 3, width: int = 2, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_of_a_grid(channels: int) -> None:
    """Five pictures in rows of 3, each pixel 2 × 2, one pixel between: row-major, the rest empty."""
    given = pictures(5, channels=channels)
    sheet = grid(given, columns=3, scale=2, gap=1)
    assert sheet.mode == ("L" if channels == 1 else "RGB")
    assert sheet.size == (3 * (4 + 1) + 1, 2 * (6 + 1) + 1)
    found = np.asarray(sheet).reshape(15, 16, channels)
    expected = np.full((15, 16, channels), BACKGROUND, np.uint8)
    for number in range(5):
        for y in range(6):
            for x in range(4):
                at = 1 + number // 3 * 7 + y, 1 + number % 3 * 5 + x
                expected[at] = given[number, y // 2, x // 2]
    assert np.array_equal(found, expected)


def test_small_pictures_are_made_visible_and_large_ones_left() -> None:
    assert grid(pictures(1, 8, 8), gap=0).size == (64, 64)
    assert grid(pictures(1, 32, 32), gap=0).size == (64, 64)
    assert grid(pictures(1, 100, 100), gap=0).size == (100, 100)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (17, 5, 4)])
def test_a_grid_is_near_a_square(count: int, columns: int, rows: int) -> None:
    assert grid(pictures(count, 2, 2), scale=1, gap=0).size == (2 * columns, 2 * rows)


def test_a_grid_is_no_wider_than_its_pictures() -> None:
    assert grid(pictures(2, 2, 2), columns=10, scale=1, gap=0).size == (4, 2)


def test_a_sample_stands_beside_its_neighbours() -> None:
    samples, near = pictures(2, 4, 4), pictures(6, 4, 4).reshape(2, 3, 4, 4, 1)
    sheet = beside(samples, near, columns=1, scale=1, gap=2, caption="")
    found = np.asarray(sheet)
    assert sheet.mode == "RGB"
    block = 4 + (2 + 2) + 3 * (2 + 4)
    assert sheet.size == (block + 16, 2 * (4 + 8) + 8)
    for number in range(2):
        row = found[8 + number * 12 :][:4]
        assert np.array_equal(row[:, 8:12], np.broadcast_to(samples[number], (4, 4, 3)))
        assert (row[:, 14:16] == (255, 140, 0)).all(), "the line between"
        for k in range(3):
            start = 8 + 4 + 4 + k * 6 + 2
            assert np.array_equal(row[:, start : start + 4], np.broadcast_to(near[number, k], (4, 4, 3)))


def test_the_caption_stands_above_and_is_never_cut() -> None:
    samples, near = pictures(1, 4, 4), pictures(1, 4, 4)[None]
    plain = beside(samples, near, scale=1, caption="")
    titled = beside(samples, near, scale=1, caption="a caption much wider than two small pictures")
    room = titled.height - plain.height
    assert 8 < room < 40 and titled.width > plain.width
    assert np.array_equal(np.asarray(titled)[room:, : plain.width], np.asarray(plain))
    text = np.asarray(titled)[:room]
    written = np.argwhere((text != BACKGROUND).any(2))
    assert len(written) > 50
    assert written.min() >= 2 and (written.max(0) < np.array(text.shape[:2]) - 2).all()


def test_pictures_select_and_iterate() -> None:
    array, labels = pictures(5), np.arange(5)
    given = Pictures(array, labels)
    assert len(given) == 5 and repr(given) == "<5 pictures of 3 × 2 × 1>"
    assert np.array_equal(given[3].array, array[3:4]) and given[3].labels.tolist() == [3]
    assert np.array_equal(given[-1].array, array[4:]) and given[1:3].labels.tolist() == [1, 2]
    assert given[np.array([4, 0])].labels.tolist() == [4, 0]
    assert [part.labels.item() for part in given] == [0, 1, 2, 3, 4]
    assert Pictures(array)[2].labels is None
    with pytest.raises(IndexError):
        given[5]


def test_pictures_join_in_order() -> None:
    array, labels = pictures(5), np.arange(5)
    joined = Pictures.joined([array[:2], array[2:]], [labels[:2], labels[2:]])
    assert np.array_equal(joined.array, array) and joined.labels.tolist() == labels.tolist()
    with pytest.raises(ValueError, match="no pictures to join"):
        Pictures.joined([])


def test_a_notebook_and_a_file_show_the_same_grid(tmp_path: Path) -> None:
    given = Pictures(pictures(5, 8, 8))
    path = given.save(tmp_path / "new" / "samples.png")
    expected = np.asarray(grid(given.array))
    assert np.array_equal(np.asarray(Image.open(path)), expected)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(given._repr_png_()))), expected)
    assert path.read_bytes() == given._repr_png_()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            pictures(2).astype(np.float32) / 255,
            TypeError,
            "pictures must be uint8, got float32: clamp and round",
        ),
        (pictures(2)[..., 0], ValueError, r"must be \(B, H, W, C\) with C = 1 or 3, got shape \(2, 3, 2\)"),
        (pictures(2, channels=2), ValueError, r"C = 1 or 3, got shape \(2, 3, 2, 2\)"),
        (pictures(2).transpose(0, 3, 1, 2), ValueError, r"C = 1 or 3, got shape \(2, 1, 3, 2\)"),
        (pictures(0), ValueError, r"no pictures: shape \(0, 3, 2, 1\)"),
    ],
)
def test_whatever_is_no_stack_of_pictures_is_refused(
    given: np.ndarray, error: type[Exception], message: str
) -> None:
    for use in (check_pictures, grid, Pictures):
        with pytest.raises(error, match=message):
            use(given)


def test_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"samples\.jpg: pictures are saved as \.png"):
        Pictures(pictures(2)).save(tmp_path / "samples.jpg")
    with pytest.raises(ValueError, match=r"2 pictures with labels of shape \(3,\)"):
        Pictures(pictures(2), np.arange(3))
    with pytest.raises(
        ValueError, match=r"neighbours must be \(B, K, H, W, C\) for samples of \(2, 3, 2, 1\)"
    ):
        beside(pictures(2), pictures(6).reshape(3, 2, 3, 2, 1))
    with pytest.raises(TypeError, match="neighbours must be uint8"):
        beside(pictures(2), pictures(2)[:, None] / 255)
    with pytest.raises(ValueError, match="columns and scale must be above 0"):
        grid(pictures(2), columns=0)


def test_a_colon_stands_by_itself() -> None:
    """Ink in three runs of columns: the letter, the colon, the letter after the space."""
    blank = Image.new("RGB", (4, 4), (BACKGROUND,) * 3)
    for letter in ascii_letters + digits:
        ink = (np.asarray(caption_above(blank, f"{letter}: x")) > BACKGROUND + 40).any((0, 2))
        assert np.count_nonzero(np.diff(ink.astype(int)) == 1) == 3, letter


def test_a_letter_without_a_shape_is_written_as_its_code() -> None:
    assert spell("drei: 三, é\n") == r"drei: \u4e09, \xe9\n"
    letters = "".join(map(chr, range(32, 127)))
    assert spell(letters) == letters
    assert spell(spell("三")) == spell("三")
