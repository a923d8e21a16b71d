"""Rows that were found, as the pictures of their samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmem.data.picture_files import read_pictures
from genmem.pictures import Pictures
from genmem_bank.changing.pictures import NamedSet
from genmem_bank.looking.searching import Found


def show_found(found: Sequence[Found], data: NamedSet, out: Path) -> Path:
    """Draw what rows were made of, in order, into a .png; its path.

    Raises:
        FileNotFoundError, DataError: A set or a picture that is not there.
        ValueError: A row of which nothing is known, or a path that does not end in .png.
    """
    dataset, tokenizer = data.dataset, data.tokenizer()
    pictures = []
    for one in found:
        if one.sample >= 0:
            picture = dataset.pictures("train", [one.sample], tokenizer)[0]
            pictures.append(picture[:, ::-1] if one.view else picture)
        elif Path(one.what).is_file():
            pictures.append(read_pictures([Path(one.what)], dataset.picture_shape)[0])
        else:
            raise ValueError(f"row {one.row} was made of {one.what or 'nothing known'}, which is no picture")
    return Pictures(np.stack(pictures)).save(out)
