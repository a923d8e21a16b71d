"""Training a map: Adam over the pairs of a bank.

Shapes: E width of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import torch
from torch import nn

from genmem_bank.mapping.losses import LOSSES
from genmem_bank.mapping.network import RowMap
from genmem_bank.mapping.pairs import Epochs

Report = Callable[[str, int, int], None]


@attrs.frozen(kw_only=True)
class Course:
    """How a map is trained. The paper: Adam, 1e-4; MSE for one epoch, or CLIP's loss for sixty."""

    loss: Literal["mse", "clip"]
    epochs: int
    batch: int = 256
    lr: float = 1e-4
    seed: int = 0
    hidden: int | None = None
    """As wide as a row if absent."""


def train_map(epochs: Epochs, width: int, course: Course, device: torch.device, report: Report) -> RowMap:
    """The map after the whole course; the same for the same seed and device.

    Args:
        epochs: Pairs of features and rows.
        width: E.
        course: How.
        device: Where.
        report: Told of progress, in rows.

    Raises:
        ValueError: Features that are not finite, or a loss that is not.
    """
    origin_D, spread = epochs.partner.moments()
    network = RowMap.drawn(course.seed, origin_D, spread, course.hidden or width, width).to(device)
    loss: nn.Module = LOSSES[course.loss]().to(device)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], course.lr)
    done, total = 0, course.epochs * epochs.built

    def tick(rows: int) -> None:
        nonlocal done
        done += rows
        report("map", done, total)

    for epoch in range(course.epochs):
        for pairs in epochs(epoch, tick):
            value = loss(network(pairs.feature_BD.to(device)), pairs.row_BE.to(device))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        if not bool(value.isfinite()):
            raise ValueError(f"the loss is {float(value)} after epoch {epoch + 1}; take a smaller --lr")
    return network.eval().requires_grad_(False)
