"""The Backbone seat: a network with hidden states one can ask for.

Shapes: B batch, C H W sample, L tokens, D width, K memories a sample, E memory width.
Time: t = 0 is data, t = 1 is noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from genmem.contracts.facts import Facts

if TYPE_CHECKING:
    from torch import Tensor, nn


class Conditioning(NamedTuple):
    """What the network is told besides (x_t, t). Absent parts are None."""

    label_B: Tensor | None = None
    """int64, 0 … num_classes - 1."""

    memory_BKE: Tensor | None = None
    """K memory rows of width E for each sample."""

    drop_B: Tensor | None = None
    """bool; True: this row is to ignore label and memory (guidance). Core alone decides it."""

    span_B: Tensor | None = None
    """t - r, where the interpolant has two times (MeanFlow)."""

    def take(self, rows_B: Tensor) -> Conditioning:
        """These rows, in this order; a row may come twice."""
        return Conditioning(*(None if part is None else part[rows_B] for part in self))


class Prediction(NamedTuple):
    """What a backbone returns, in training and in evaluation alike."""

    output: Tensor
    """(B, C_out, H, W); empty where the forward was told to stop early."""

    hidden: dict[int, Tensor]
    """{tap: (B, L, D)}: the hidden state after that many blocks, exactly the taps asked for."""


class Count(NamedTuple):
    """What a network has and does, worked out from its settings."""

    parameters: int
    """All of them, frozen ones too."""

    macs: int
    """Multiply-adds of products, convolutions and attention in one forward of one sample."""


class Backbone(Protocol):
    """A `torch.nn.Module` that predicts from a noisy sample."""

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the submodules that are compiled, checkpointed and sharded one by one."""

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Conditioning,
        /,
        *,
        taps: tuple[int, ...] = (),
        until: int | None = None,
    ) -> Prediction:
        """Predict from `x_t` (B, C, H, W) at `t` (B,), or (B, L) where token times are consumed.

        Args:
            x_t: Noisy sample.
            t: Time, 0 data … 1 noise.
            cond: Label, memory, drop mask, span.
            taps: Block counts whose hidden state is wanted.
            until: Stop after this many blocks; `output` is then empty.
        """


@attrs.frozen(kw_only=True)
class BackboneConfig(ABC):
    """Settings of a backbone; says, unbuilt and without torch, what it offers."""

    @property
    @abstractmethod
    def tap_widths(self) -> Mapping[int, int]:
        """{k: D}: width of the hidden state after k blocks, k = 1 … depth."""

    @property
    def consumes(self) -> frozenset[str]:
        """Subset of {"label", "memory", "span", "token-times"}."""
        return frozenset()

    def count(self, facts: Facts) -> Count | None:
        """Parameters and MACs for these facts; None where the component does not work them out.

        Raises:
            ValueError: Where the facts do not fit.
        """
        return None

    @abstractmethod
    def build(self, facts: Facts) -> nn.Module:
        """The network, a `Backbone`.

        Raises:
            ValueError: Where the facts do not fit (a height the patch does not divide, say).
        """
