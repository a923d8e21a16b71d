"""How well a map does on held-out pictures, which it was not trained on.

Shapes: N held-out pictures, E width of a row, T texts, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST = 4096
"""Held-out pictures looked at, evenly spaced."""

CHUNK = 512


def choose_held_out(count: int) -> np.ndarray:
    """Their numbers."""
    return np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64)


def score_rows(found_NE: Tensor, row_NE: Tensor, mean_E: Tensor) -> dict[str, float]:
    """Of rows that were found and true ones, all of norm 1.

    cosine       mean inner product of a found row with the true one
    mean_cosine  that of the mean row of the bank, which a map that knows nothing would give
    first        share of pictures whose true row is the nearest of all held-out ones
    rank         median place of the true row among them, 1 for the first
    """
    own_N = (found_NE * row_NE).sum(1)
    places = [
        1 + ((part_nE @ row_NE.mT) > own_n[:, None]).sum(1)
        for part_nE, own_n in zip(_chunks(found_NE), _chunks(own_N), strict=True)
    ]
    place_N = torch.cat(places)
    return {
        "cosine": float(own_N.mean()),
        "mean_cosine": float((row_NE @ torch.nn.functional.normalize(mean_E, dim=0)).mean()),
        "first": float((place_N == 1).double().mean()),
        "rank": float(place_N.double().quantile(0.5)),
        "pictures": float(len(row_NE)),
    }


def score_texts(found_TE: Tensor, class_T: Tensor, row_NE: Tensor, label_N: Tensor) -> dict[str, float]:
    """Of texts and the rows of held-out pictures, all of norm 1.

    cosine   mean inner product of a row with the nearest text of its class
    right    share of rows to which a text of their own class is nearer than any other text
    chance   share of the most frequent class: what one text for all would have
    """
    own, right, counts = 0.0, 0, torch.bincount(label_N)
    for row_nE, label_n in zip(_chunks(row_NE), _chunks(label_N), strict=True):
        product_nT = row_nE @ found_TE.mT
        same_nT = class_T[None] == label_n[:, None]
        own += float(product_nT.masked_fill(~same_nT, -2).amax(1).sum())
        right += int(same_nT.gather(1, product_nT.argmax(1, keepdim=True)).sum())
    return {
        "cosine": own / len(row_NE),
        "right": right / len(row_NE),
        "chance": float(counts.max()) / len(row_NE),
        "pictures": float(len(row_NE)),
    }


def _chunks(values: Tensor) -> tuple[Tensor, ...]:
    return torch.split(values, CHUNK)
