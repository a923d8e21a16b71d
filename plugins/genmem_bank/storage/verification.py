"""Comparing a bank's files with the hashes on its card."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from genmem_bank.mapping.keeping import read_map
from genmem_bank.storage.card import ANEW, Card
from genmem_bank.storage.columns import map_column
from genmem_bank.storage.files import map_segment, read_basis

_PIECE = 1 << 24


def verify(folder: Path, card: Card) -> None:
    """Compare every byte with the hashes on the card.

    Raises:
        ValueError, FileNotFoundError: The first file that is missing, cut short or changed.
    """
    if card.basis_file is not None:
        read_basis(folder, card)
    if card.encoder_file is not None:
        _compare(folder, card.encoder_file, np.memmap(folder / card.encoder_file, mode="r"))
    for mapped in card.maps:
        read_map(folder, card, mapped)
        if mapped.encoder_file is not None:
            _compare(folder, mapped.encoder_file, np.memmap(folder / mapped.encoder_file, mode="r"))
    for segment in card.segments:
        samples, rows_NW = segment.origin.samples, map_segment(folder, card, segment)
        if hash_array(rows_NW) != segment.hash:
            raise ValueError(f"{folder / segment.file}: changed since the bank was built; {ANEW}")
        if samples is not None:
            _compare(folder, samples.numbers, map_column(folder, segment, "numbers"))
            _compare(folder, samples.labels, map_column(folder, segment, "labels"))


def _compare(folder: Path, file: str | None, found: np.ndarray | None) -> None:
    """A file whose name says the hash of what it holds."""
    if file is not None and found is not None and f"-{hash_array(found)[:16]}." not in file:
        raise ValueError(f"{folder / file}: changed since the bank was built; {ANEW}")


def hash_array(stored: np.ndarray) -> str:
    """sha256 of an array's bytes, a piece at a time."""
    digest = hashlib.sha256()
    rows = max(1, _PIECE // max(1, stored[:1].nbytes))
    for start in range(0, len(stored), rows):
        digest.update(stored[start : start + rows].tobytes())
    return digest.hexdigest()
