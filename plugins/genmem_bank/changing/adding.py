"""Adding to a bank: features of pictures it never had, and points between its rows. Nothing is trained.

Shapes: B rows to add, E width, W numbers stored for a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from genmem.data.files import hash_file
from genmem_bank.conditioning.code import Code, open_code
from genmem_bank.storage.card import Added, Card, read_card
from genmem_bank.storage.files import append_rows
from genmem_bank.storage.rows import StoredRows

PART = 4096


class Editor:
    """A bank that is to be added to, in float64 on the CPU."""

    def __init__(self, folder: Path) -> None:
        """Open the bank in `folder`.

        Raises:
            FileNotFoundError: No bank there.
            ValueError: A damaged one.
        """
        self.folder, self.card = folder, read_card(folder)
        code, _ = open_code(folder, self.card, torch.device("cpu"), torch.float64)
        self.code: Code = code
        self.rows = StoredRows(folder, self.card)

    def encode(self, feature_BE: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """(B, W) float64: the stored form of features, of any length (eq. 10).

        Raises:
            ValueError: Another width or dtype, or a feature that is zero or not finite; it is named.
        """
        if feature_BE.ndim != 2 or feature_BE.shape[1] != self.card.width:
            raise ValueError(
                f"features of shape {feature_BE.shape}, but the bank's rows have width {self.card.width}: "
                f"expected (rows, {self.card.width}), of encoder {self.card.encoder!r}"
            )
        if feature_BE.dtype.kind != "f":
            raise ValueError(f"features are {feature_BE.dtype}, expected floating point; nothing was written")
        wide_BE = feature_BE.astype(np.float64)
        norm_B = np.linalg.norm(wide_BE, axis=1)
        bad = np.flatnonzero(~(np.isfinite(norm_B) & (norm_B > 0)))
        if len(bad):
            kind = "zero" if norm_B[bad[0]] == 0 else "not finite"
            raise ValueError(f"{names[bad[0]]}: its feature is {kind}; nothing was written")
        return self.code.encode(torch.from_numpy(wide_BE / norm_B[:, None])).numpy()

    def take(self, number_B: Sequence[int]) -> np.ndarray:
        """(B, W) float64: rows as they are stored.

        Raises:
            IndexError: A number that is not a row.
        """
        return self.rows.take(np.asarray(number_B, np.int64)).astype(np.float64)

    def append(self, parts: Iterator[np.ndarray], added: Added) -> Card:
        """Store rows (n, W), some at a time, and their origin; the bank's new card.

        Raises:
            ValueError: The bank was built anew meanwhile; or as `append_rows`. Nothing is written.
        """

        def of_this_bank() -> Iterator[np.ndarray]:
            # Runs while the bank is locked.
            if read_card(self.folder).identity != self.card.identity:
                raise ValueError(f"{self.folder}: this bank was built anew meanwhile; nothing was written")
            yield from parts

        return append_rows(self.folder, of_this_bank(), added)


def add_features(folder: Path, feature_BE: np.ndarray, added: Added) -> Card:
    """Add features, one row for each thing in `added`; the bank's new card.

    Raises:
        FileNotFoundError: No bank in `folder`.
        ValueError: A damaged bank, or features that no row can be made of; nothing is written.
    """
    editor = Editor(folder)
    if len(feature_BE) != len(added.what) or not len(feature_BE):
        raise ValueError(f"{len(feature_BE)} features for {len(added.what)} names; nothing was written")
    starts = range(0, len(feature_BE), PART)
    parts = ((slice(start, start + PART)) for start in starts)
    encoded = (editor.encode(np.asarray(feature_BE[part]), added.what[part]) for part in parts)
    return editor.append(encoded, added)


def add_file(folder: Path, file: Path) -> Card:
    """Add the features in a .npy file, (B, E); the bank's new card.

    Raises:
        FileNotFoundError: No bank, or no file.
        ValueError: No array of features in the file; or as `add_features`.
    """
    read_card(folder)
    try:
        feature_BE = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        # NumPy's own message advises to run what is in the file.
        feature_BE = None
    if not isinstance(feature_BE, np.ndarray) or feature_BE.ndim != 2:
        raise ValueError(f"{file}: no .npy file of one array (rows, width) of numbers; nothing was written")
    digest = hash_file(file)
    what = tuple(f"{file.name}[{number}]" for number in range(len(feature_BE)))
    return add_features(folder, feature_BE, Added(what=what, hashes=(digest,) * len(what)))
