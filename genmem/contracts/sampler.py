"""The Sampler and Guidance seats: from noise to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import attrs

from genmem.contracts.backbone import Conditioning

if TYPE_CHECKING:
    from torch import Tensor

    from genmem.contracts.interpolant import Fields, Interpolant
    from genmem.draws import Draws


class Evaluate(Protocol):
    """What a sampler may ask: one network evaluation per row and call, and the path it is on."""

    @property
    def interpolant(self) -> Interpolant:
        """The process the network was trained on."""

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Fields at x (B, C, H, W) and t (B,)."""

    def select(self, rows_B: Tensor, /) -> Evaluate:
        """The same for some rows of the batch alone, for a sampler whose rows finish at different
        times; evaluations are counted together."""


class Output(Protocol):
    """The network, as a guidance sees it."""

    def __call__(self, x: Tensor, t_B: Tensor, cond: Conditioning, rows_B: Tensor | None = None, /) -> Tensor:
        """Network output: one call of the network, one evaluation for each row.

        Args:
            x: (B', C, H, W); any number of rows, with and without condition.
            t_B: Times of the same rows.
            cond: Conditions of the same rows.
            rows_B: Which row of the batch each of them belongs to, for the count; in order if absent.
        """


class Sampler(Protocol):
    """Stateless: takes noise at t = 1 to a sample at t = 0."""

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate from `x` (B, C, H, W); every random number comes from `draws`."""


class Guidance(Protocol):
    """Turns conditional and unconditional outputs into one."""

    def __call__(self, output: Output, x: Tensor, t_B: Tensor, cond: Conditioning, /) -> Tensor:
        """The guided output; asks `output` only for rows and conditions that are needed.

        The output may have more channels than x, where a variance is learned; those are not guided.
        """


@attrs.frozen(kw_only=True)
class SamplerConfig(ABC):
    """Settings of a sampler."""

    @property
    @abstractmethod
    def evaluations(self) -> int | None:
        """Network evaluations of one sample without guidance; None where they depend on the sample."""

    @property
    def asks(self) -> frozenset[str]:
        """What the interpolant must consume for it: subset of {"span"}."""
        return frozenset()

    @abstractmethod
    def build(self) -> Sampler:
        """The sampler."""


@attrs.frozen(kw_only=True)
class GuidanceConfig(ABC):
    """Settings of a guidance."""

    @property
    def needs_drop(self) -> bool:
        """Whether it evaluates the network without condition, so that training must drop it."""
        return True

    @abstractmethod
    def build(self) -> Guidance:
        """The guidance."""
