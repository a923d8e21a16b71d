"""Many samples at once, spread over the processes and gathered in order of their numbers.

Shapes: N pictures, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem import collectives
from genmem.contracts import Tokenizer
from genmem.sampling.generator import Generated, Generator

Tick = Callable[[int], None]
"""Called with the number of samples just finished by this process."""


@attrs.frozen(kw_only=True)
class Gallery:
    """Samples 0 … N - 1 of one seed, decoded."""

    pictures: np.ndarray
    """uint8 (N, H, W, C)."""

    label_N: np.ndarray | None
    row_N: np.ndarray | None
    evaluations: int
    """Network evaluations each sample took (the most, where batches differ)."""

    def __len__(self) -> int:
        return len(self.pictures)


def generate(
    generator: Generator,
    tokenizer: Tokenizer,
    num: int,
    *,
    seed: int,
    batch: int,
    memory_NKE: Tensor | None = None,
    tick: Tick | None = None,
) -> Gallery:
    """Samples 0 … num - 1, the same for any number of processes and any batch.

    Args:
        generator: What samples.
        tokenizer: What decodes.
        num: How many.
        seed: Of which set.
        batch: At most so many at once on one process.
        memory_NKE: Memory rows to condition on, one entry a sample.
        tick: For a progress bar.
    """
    start, stop = _share(num)
    given = None if memory_NKE is None else memory_NKE[start:stop]
    parts, pictures = [], []
    for part in generator.batches(torch.arange(start, stop), seed, batch, given):
        pictures.append(tokenizer.decode(part.x))
        parts.append(part._replace(x=part.x[:0]))
        if tick:
            tick(len(part.index_B))
    return Gallery(
        pictures=_gathered(torch.from_numpy(np.concatenate(pictures)), num).numpy(),
        label_N=_column(parts, "label_B", num),
        row_N=_column(parts, "row_B", num),
        evaluations=max(part.evaluations for part in parts),
    )


def _share(num: int) -> tuple[int, int]:
    world, rank = collectives.world_size(), collectives.rank()
    return num * rank // world, num * (rank + 1) // world


def _column(parts: list[Generated], name: str, num: int) -> np.ndarray | None:
    values = [getattr(part, name) for part in parts]
    if any(value is None for value in values):
        return None
    return _gathered(torch.cat(values).cpu(), num).numpy()


def _gathered(rows: Tensor, num: int) -> Tensor:
    """All processes' rows in order; shares differ by one at most, so they are padded first."""
    world = collectives.world_size()
    if world == 1:
        return rows
    most = -(-num // world)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.distributed.get_backend() == "nccl"
        else None
    )
    gathered = (
        collectives.gather(padded.to(device) if device else padded).cpu().view(world, most, *rows.shape[1:])
    )
    counts = [num * (rank + 1) // world - num * rank // world for rank in range(world)]
    return torch.cat([gathered[rank, :count] for rank, count in enumerate(counts)])
