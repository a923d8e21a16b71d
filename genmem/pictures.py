"""Pictures one can look at: uint8 arrays laid out as PNG, and shown in a notebook.

Pictures are uint8 (B, H, W, C) NumPy arrays, C = 1 or 3.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from genmem.captions import caption_above

_BACKGROUND = 96
_SEPARATOR = (255, 140, 0)
_SHOWN_SIZE = 64
"""Small pictures are shown at least about this many pixels high."""


def check_pictures(pictures_BHWC: np.ndarray, name: str = "pictures") -> None:
    """Refuse whatever is not a stack of pictures.

    Raises:
        TypeError: Not uint8.
        ValueError: Not (B, H, W, C) with C = 1 or 3, or none at all.
    """
    if pictures_BHWC.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {pictures_BHWC.dtype}: clamp and round to 0 … 255 first")
    shape = pictures_BHWC.shape
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(f"{name} must be (B, H, W, C) with C = 1 or 3, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"no {name}: shape {shape}")


def grid(
    pictures_BHWC: np.ndarray, columns: int | None = None, scale: int | None = None, gap: int = 2
) -> Image.Image:
    """Pictures in rows, left to right.

    Args:
        pictures_BHWC: The pictures.
        columns: Pictures in a row; as near a square as can be if absent.
        scale: Each pixel becomes scale × scale; chosen to make small pictures visible if absent.
        gap: Pixels between pictures and around them.

    Raises:
        TypeError, ValueError: As `check_pictures`; columns or scale below 1, a negative gap.
    """
    check_pictures(pictures_BHWC)
    count, height, width, channels = pictures_BHWC.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    scale = _visible_scale(height) if scale is None else scale
    if columns < 1 or scale < 1 or gap < 0:
        raise ValueError(f"columns and scale must be above 0, gap 0 or more; got {columns}, {scale}, {gap}")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    step_y, step_x = height * scale + gap, width * scale + gap
    canvas_HWC = np.full((rows * step_y + gap, columns * step_x + gap, channels), _BACKGROUND, np.uint8)
    for number, picture_HWC in enumerate(_enlarged(pictures_BHWC, scale)):
        y, x = gap + number // columns * step_y, gap + number % columns * step_x
        canvas_HWC[y : y + height * scale, x : x + width * scale] = picture_HWC
    return Image.fromarray(canvas_HWC.squeeze(2) if channels == 1 else canvas_HWC)


def beside(
    samples_BHWC: np.ndarray,
    neighbours_BKHWC: np.ndarray,
    *,
    columns: int = 4,
    scale: int | None = None,
    gap: int = 2,
    caption: str = "left of each line: a sample; right of it: its nearest training pictures",
) -> Image.Image:
    """Each sample with its K nearest pictures to its right, a line between them.

    Args:
        samples_BHWC: The samples.
        neighbours_BKHWC: K pictures for each, nearest first, of the samples' size.
        columns: Samples in a row.
        scale: Each pixel becomes scale × scale; chosen to make small pictures visible if absent.
        gap: Pixels between pictures.
        caption: A line of text above; none if empty.

    Raises:
        TypeError, ValueError: As `check_pictures`, or pictures that do not belong to the samples.
    """
    check_pictures(samples_BHWC, "samples")
    count, height = samples_BHWC.shape[:2]
    shape = neighbours_BKHWC.shape
    if len(shape) != 5 or shape[0] != count or shape[2:] != samples_BHWC.shape[1:]:
        raise ValueError(
            f"neighbours must be (B, K, H, W, C) for samples of {samples_BHWC.shape}, got shape {shape}"
        )
    check_pictures(neighbours_BKHWC.reshape(-1, *shape[2:]), "neighbours")
    scale = _visible_scale(height) if scale is None else scale
    blocks = [
        _line([sample[None], near], scale, gap)
        for sample, near in zip(samples_BHWC, neighbours_BKHWC, strict=True)
    ]
    sheet = grid(np.stack(blocks), columns=columns, scale=1, gap=4 * gap)
    return caption_above(sheet, caption) if caption else sheet


def lines(
    groups: Sequence[np.ndarray], caption: str = "", scale: int | None = None, gap: int = 2
) -> Image.Image:
    """Groups of pictures side by side, a line of each below the last; orange lines between groups.

    Args:
        groups: uint8 (S, n, H, W, C): n pictures in each of the S lines, n for each group.
        caption: A line of text above; none if empty.
        scale: Each pixel becomes scale × scale; chosen to make small pictures visible if absent.
        gap: Pixels between pictures.

    Raises:
        TypeError, ValueError: As `check_pictures`, or groups of another number of lines.
    """
    if len({len(group) for group in groups}) != 1:
        raise ValueError(f"groups must have one number of lines, got {[len(group) for group in groups]}")
    for group in groups:
        check_pictures(group.reshape(-1, *group.shape[2:]))
    scale = _visible_scale(groups[0].shape[2]) if scale is None else scale
    blocks = [_line([group[number] for group in groups], scale, gap) for number in range(len(groups[0]))]
    sheet = grid(np.stack(blocks), columns=1, scale=1, gap=gap)
    return caption_above(sheet, caption) if caption else sheet


class Pictures:
    """Pictures with their labels, as the Python interface returns them."""

    def __init__(self, array_BHWC: np.ndarray, labels_B: np.ndarray | None = None) -> None:
        """Pictures uint8 (B, H, W, C), and a label for each where there are labels.

        Raises:
            TypeError, ValueError: As `check_pictures`, or another number of labels.
        """
        check_pictures(array_BHWC)
        if labels_B is not None and labels_B.shape != array_BHWC.shape[:1]:
            raise ValueError(f"{len(array_BHWC)} pictures with labels of shape {labels_B.shape}")
        self.array = array_BHWC
        self.labels = labels_B

    @classmethod
    def joined(cls, arrays: Sequence[np.ndarray], labels: Sequence[np.ndarray] | None = None) -> Pictures:
        """The pictures of several arrays, in order, with the labels of each where there are any.

        Raises:
            TypeError, ValueError: No array, or as `Pictures`.
        """
        if not arrays:
            raise ValueError("no pictures to join")
        return cls(np.concatenate(arrays), None if labels is None else np.concatenate(labels))

    def __len__(self) -> int:
        """B."""
        return len(self.array)

    def __getitem__(self, which: int | slice | np.ndarray) -> Pictures:
        """Some of them, still pictures; one if `which` is a number.

        Raises:
            IndexError: A number that is not there.
            ValueError: A selection of none.
        """
        if isinstance(which, int | np.integer):
            which = np.arange(len(self))[[which]]
        return Pictures(self.array[which], None if self.labels is None else self.labels[which])

    def __iter__(self) -> Iterator[Pictures]:
        """One at a time."""
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        """Number and size."""
        count, height, width, channels = self.array.shape
        return f"<{count} pictures of {height} × {width} × {channels}>"

    def save(self, path: str | Path) -> Path:
        """Write them as one PNG and return its path; folders are made.

        Raises:
            ValueError: A path that does not end in .png.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path}: pictures are saved as .png; `.array` holds them for other formats")
        path.parent.mkdir(parents=True, exist_ok=True)
        grid(self.array).save(path)
        return path

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        grid(self.array).save(buffer, "PNG")
        return buffer.getvalue()


def _visible_scale(height: int) -> int:
    return max(1, _SHOWN_SIZE // height)


def _enlarged(pictures_BHWC: np.ndarray, scale: int) -> np.ndarray:
    return pictures_BHWC.repeat(scale, 1).repeat(scale, 2)


def _line(groups: Sequence[np.ndarray], scale: int, gap: int) -> np.ndarray:
    """RGB picture: groups (n, H, W, C) side by side, a coloured line between two."""
    height = groups[0].shape[1] * scale
    between = np.full((height, gap, 3), _BACKGROUND, np.uint8)
    line = np.broadcast_to(np.array(_SEPARATOR, np.uint8), (height, 2, 3))
    parts: list[np.ndarray] = []
    for group in groups:
        parts += [line, between] if parts else []
        for picture in _enlarged(group, scale):
            parts += [_colour(picture), between]
    return np.concatenate(parts[:-1], 1)


def _colour(picture_HWC: np.ndarray) -> np.ndarray:
    return np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3))
