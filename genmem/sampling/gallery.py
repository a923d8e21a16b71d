"""Many samples at once, spread over the processes: each keeps the pictures that it made.

Shapes: N samples, n of them made here, B asked for, K memories a sample, E memory width.
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


@attrs.frozen(kw_only=True, eq=False)
class Gallery:
    """Samples 0 … N - 1 of one seed, decoded: a set of pictures of which this process reads its share."""

    pictures: np.ndarray
    """uint8 (n, H, W, C): those made here; all of them where there is one process."""

    first: int
    """Number of the first of them."""

    num: int
    """N."""

    label_N: np.ndarray | None
    row_N: np.ndarray | None
    evaluations: int
    """Network evaluations each sample took (the most, where batches differ)."""

    name = "samples"

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, C."""
        height, width, channels = self.pictures.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return self.num

    def read(self, numbers_B: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C).

        Raises:
            IndexError: Numbers of samples that another process has made.
        """
        places_B = numbers_B - self.first
        if len(places_B) and not 0 <= places_B.min() <= places_B.max() < len(self.pictures):
            raise IndexError(
                f"this process made samples {self.first} to {self.first + len(self.pictures) - 1}; asked for "
                f"{numbers_B.min()} to {numbers_B.max()}"
            )
        found: np.ndarray = self.pictures[places_B]
        return found

    def head(self, count: int) -> np.ndarray:
        """uint8 (count, H, W, C): the first samples, on every process; fewer if there are no more.

        Collective.
        """
        own = self.pictures[: max(0, count - self.first)]
        found = np.zeros((min(count, self.num), *self.shape), np.uint8)
        found[self.first : self.first + len(own)] = own
        return collectives.add(torch.from_numpy(found)).numpy()


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
    """Samples 0 … num - 1, the same for any number of processes and any batch. Collective.

    Args:
        generator: What samples.
        tokenizer: What decodes.
        num: How many.
        seed: Of which set.
        batch: At most so many at once on one process.
        memory_NKE: Memory rows to condition on, one entry a sample.
        tick: For a progress bar.
    """
    start, stop = collectives.share(num)
    given = None if memory_NKE is None else memory_NKE[start:stop]
    parts, pictures = [], []
    for part in generator.batches(torch.arange(start, stop), seed, batch, given):
        pictures.append(tokenizer.decode(part.x))
        parts.append(part._replace(x=part.x[:0]))
        if tick:
            tick(len(part.index_B))
    return Gallery(
        pictures=np.concatenate(pictures),
        first=start,
        num=num,
        label_N=_column(parts, "label_B", num),
        row_N=_column(parts, "row_B", num),
        evaluations=max(part.evaluations for part in parts),
    )


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
