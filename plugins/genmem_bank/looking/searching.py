"""The rows nearest to a picture or to a row: a matrix product and the largest of it, in chunks.

Shapes: B queries, E width, W numbers stored for a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from genmem_bank import SvdBankConfig
from genmem_bank.conditioning.store import SvdBank
from genmem_bank.storage.card import Card, read_card
from genmem_bank.storage.rows import StoredRows


class Found(NamedTuple):
    """One row."""

    row: int
    product: float
    """Inner product with the query, both of norm 1."""

    sample: int
    """Number of its training sample, -1 for none."""

    view: int
    what: str
    """What an added row was made of."""


def search(folder: Path, stored_BW: np.ndarray, k: int) -> list[list[Found]]:
    """The k nearest rows of each query, which comes as rows are stored; nearest first.

    Raises:
        FileNotFoundError: No bank in `folder`.
        ValueError: A damaged one, or one of fewer than k rows.
    """
    card = read_card(folder)
    bank = SvdBank(config_of(folder, card), card)
    query_BE = bank.decode(torch.from_numpy(np.asarray(stored_BW, np.float32)))[:, 0]
    products, numbers = bank.nearest(query_BE, k)
    rows = StoredRows(folder, card)
    return [
        [_found(card, rows, row, product) for row, product in zip(near, close, strict=True)]
        for near, close in zip(numbers.tolist(), products.tolist(), strict=True)
    ]


def config_of(folder: Path, card: Card) -> SvdBankConfig:
    """The settings that read a bank as it is."""
    return SvdBankConfig(
        path=str(folder), encoder=card.encoder, rank=card.rank or "raw", dtype=card.dtype, mask="none"
    )


def _found(card: Card, rows: StoredRows, row: int, product: float) -> Found:
    (sample,), (view,) = (values.tolist() for values in rows.samples(np.array([row])))
    return Found(row, product, sample, view, _what(card, row))


def _what(card: Card, row: int) -> str:
    for start, segment in zip(card.starts, card.segments, strict=False):
        if segment.origin.added is not None and start <= row < start + segment.rows:
            return segment.origin.added.what[row - start]
    return ""
