"""The bank that a map is made for, with the set that its rows were made of.

Shapes: N held-out pictures, E width of a row.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem_bank.changing.adding import Editor
from genmem_bank.changing.pictures import NamedSet, open_encoder
from genmem_bank.mapping.pairs import unit_rows
from genmem_bank.storage.card import Card, Samples

_MEAN_ROWS = 1 << 14
_AT_ONCE = 64


class Subject:
    """A bank and its set, opened."""

    def __init__(self, folder: Path, data: NamedSet) -> None:
        """Open both.

        Raises:
            FileNotFoundError: No bank in `folder`.
            ValueError: A damaged one, one of another set, or of pictures that nobody knows.
        """
        self.folder, self.data = folder, data
        self._editor = Editor(folder)
        self.card: Card = self._editor.card
        self.rows = self._editor.rows
        self.samples = _require_samples(folder, self.card, data)
        self.built = self.card.segments[0].rows
        """Rows that it was built with; those that were added are no samples."""

    @property
    def numbers(self) -> np.ndarray | None:
        """The samples (count,) that its rows are of, where they were chosen."""
        if self.samples.numbers is None:
            return None
        return self.rows.samples(np.arange(self.samples.count))[0]

    def read(self, start: int, stop: int) -> Tensor:
        """(stop - start, E): consecutive rows, of norm 1."""
        stored_NW = torch.from_numpy(self.rows.part(start, stop)).double()
        return unit_rows(self._editor.code, stored_NW).float()

    @cached_property
    def mean_E(self) -> Tensor:
        """The direction of the mean of its first rows."""
        return F.normalize(self.read(0, min(self.built, _MEAN_ROWS)).mean(0), dim=0)

    def held_out(self, number_N: np.ndarray) -> Tensor:
        """(N, E): the rows, of norm 1, that held-out pictures would have (eq. 10).

        Raises:
            ValueError: A feature without direction.
        """
        dataset, name = self.data.dataset, self.card.encoder
        if name in dataset.feature_widths:
            parts = [dataset.feature("test", name, one, one + 1) for one in number_N.tolist()]
        else:
            encoder, tokenizer = (
                open_encoder(self.folder, self.card, self.data).encoder,
                self.data.tokenizer(),
            )
            pieces = np.array_split(number_N, -(-len(number_N) // _AT_ONCE))
            parts = [encoder.encode(dataset.pictures("test", part, tokenizer)).pooled_BD for part in pieces]
        names = [f"held-out sample {number}" for number in number_N.tolist()]
        stored_NW = torch.from_numpy(self._editor.encode(np.concatenate(parts), names))
        return unit_rows(self._editor.code, stored_NW).float()


def _require_samples(folder: Path, card: Card, data: NamedSet) -> Samples:
    """The samples that the bank was built of, which are the set's."""
    samples = card.segments[0].origin.samples
    if samples is None:
        raise ValueError(f"{folder}: nobody knows which pictures its rows are, so no map can be made to them")
    found, made_of = data.dataset.fingerprint(), str(card.provenance.get("fingerprint"))
    if made_of != found:
        raise ValueError(
            f"{data.dataset.path}: this is not the set that the bank was made of (fingerprint {found[:16]}, "
            f"the bank's is {made_of[:16]}); name that one by --data"
        )
    return samples
