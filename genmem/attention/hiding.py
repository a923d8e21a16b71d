"""Which rows count for which queries.

Shapes: B queries, N rows of one chunk, E width.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

from torch import Tensor

from genmem.attention.chunks import Chunk
from genmem.contracts import Hide


class Rows(NamedTuple):
    """A chunk in the precision of the queries: logits are q·k + bias."""

    keys_NE: Tensor
    chunk: Chunk
    """What is known of the rows; its own keys are as the memory stores them."""

    bias_N: Tensor | None = None


def require_tags(chunk: Chunk, hide: Hide) -> None:
    """Refuse to hide by what the rows do not know.

    Raises:
        ValueError: Classes or times are asked for that the chunk does not carry.
    """
    for asked, known, what in (
        (hide.label_B, chunk.label_N, "class"),
        (hide.t_B, chunk.t_N, "time"),
    ):
        if asked is not None and known is None:
            raise ValueError(
                f"rows cannot be hidden by {what}: this memory does not know the {what} of its rows; "
                "use a memory that does, or do not hide by it"
            )


def counted(chunk: Chunk, hide: Hide) -> Tensor | None:
    """(B, N) or (1, N) bool: rows that count; None where all do."""
    counts = counts_for(asked_at(hide, (slice(None), None)), chunk, hide.window)
    return counts[None] if counts is not None and counts.ndim == 1 else counts


def counts_for(asking: Hide, row: Chunk, window: float | Tensor) -> Tensor | None:
    """Whether a row counts for a query, for any shapes that broadcast; None where every one does.

    `window` takes the place of that in `asking`.
    """
    rules = []
    if row.valid_N is not None:
        rules.append(row.valid_N)
    if asking.ids_B is not None and row.ids_N is not None:
        rules.append(asking.ids_B != row.ids_N)
    if asking.label_B is not None and row.label_N is not None:
        rules.append((asking.label_B != row.label_N) | (asking.label_B < 0))
    if asking.t_B is not None and row.t_N is not None:
        rules.append((asking.t_B - row.t_N).abs() < window)
    return reduce(operator.and_, rules) if rules else None


def asked_at(hide: Hide, index: Any) -> Hide:
    """What is hidden from the queries of this index, but for the window."""
    ids, label, t = (None if part is None else part[index] for part in hide[:3])
    return Hide(ids, label, t)


def tags_at(chunk: Chunk, index: Any) -> Chunk:
    """What is known of the rows of this index; the keys stay as they are."""
    return Chunk(chunk.keys_NE, *(None if tag is None else tag[index] for tag in chunk[1:]))


def select(rows: Rows, which_N: Tensor) -> Rows:
    """The rows of a mask, with all that is known of them."""
    number_N = which_N.nonzero()[:, 0]
    bias_N = None if rows.bias_N is None else rows.bias_N[number_N]
    return Rows(rows.keys_NE[number_N], tags_at(rows.chunk, number_N), bias_N)


def pieces(rows: Rows, size: int) -> Iterator[Rows]:
    """The same rows, at most `size` at a time; nothing is copied."""
    for start in range(0, len(rows.keys_NE), size):
        part = slice(start, start + size)
        bias_N = None if rows.bias_N is None else rows.bias_N[part]
        yield Rows(rows.keys_NE[part], tags_at(rows.chunk, part), bias_N)
