"""Rows of several processes: padded to be gathered, and the closest where each holds others.

Shapes: N rows, B a process's queries, W processes, E width, K rows asked for, C candidates of a process.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.attention import Chunk, closest
from genmem.collectives import gather, rank, world_size
from genmem_repulsor.ring import Columns, Ring

PADDING = -2
"""Sample number of a row that only makes a process's rows as many as another's."""


def pad_to_share(own: Columns, share: int) -> Columns:
    """A process's new rows, brought up to `share`, so that all bring equally many; 0: as they are.

    Raises:
        ValueError: More rows than a share, and not whole shares.
    """
    number = len(own["ids"])
    if share == 0 or (number and number % share == 0):
        return own
    if number > share:
        raise ValueError(
            f"{number} rows of this process are not whole shares of {share}, what a process has of "
            "the global batch; drop the last, uneven batch, or write each sample equally often"
        )
    missing = (0, share - number)
    padded = {name: F.pad(column, (0, 0) * (column.ndim - 1) + missing) for name, column in own.items()}
    padded["ids"][number:] = PADDING
    return padded


def gather_rows(own: Columns) -> Columns:
    """The rows of all processes, equally many each, in their order; all columns in one message."""
    if world_size() == 1:
        return own
    bytes_of = {name: column[..., None].flatten(1).view(torch.uint8) for name, column in own.items()}
    message = gather(torch.cat([*bytes_of.values()], 1))
    parts = torch.split(message, [part.shape[1] for part in bytes_of.values()], 1)
    return {
        name: part.contiguous().view(column.dtype).view(len(message), *column.shape[1:])
        for (name, column), part in zip(own.items(), parts, strict=True)
    }


def closest_of_all(q_BE: Tensor, chunks: Iterable[Chunk], k: int, ring: Ring) -> tuple[Tensor, Tensor]:
    """Inner products (B, K) and slots (B, K), the best of every process's own K closest. Collective."""
    candidates = min(k, ring.places)
    product_WBC, place_WBC = closest(gather(q_BE.detach().float()), chunks, candidates)
    slot_WBC = torch.where(place_WBC < 0, -1, place_WBC * ring.world + ring.rank)
    # Processes may hold fewer rows than k, one of them one fewer than another.
    missing = k - candidates
    product_BC = _own(F.pad(product_WBC, (0, missing), value=-torch.inf), len(q_BE))
    slot_BC = _own(F.pad(slot_WBC, (0, missing), value=-1), len(q_BE))
    product_BK, order_BK = product_BC.topk(k, 1)
    return product_BK, slot_BC.gather(1, order_BK)


def _own(found: Tensor, count: int) -> Tensor:
    """(B, W·K): what every process found for this one's queries."""
    parts = gather(found).view(world_size(), world_size(), count, -1)
    return parts[:, rank()].transpose(0, 1).flatten(1)
