"""The Sampler and Guidance seats: from noise to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from genmem.contracts.backbone import Conditioning

if TYPE_CHECKING:
    from torch import Tensor

    from genmem.contracts.interpolant import Fields, Interpolant
    from genmem.draws import Draws

    Output = Callable[[Tensor, Tensor, Conditioning], Tensor]
    """(x_t, t_B, cond) -> network output: one network evaluation."""


class Evaluate(Protocol):
    """What a sampler may ask: one network evaluation per call, and the path it is on."""

    @property
    def interpolant(self) -> Interpolant:
        """The process the network was trained on."""

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Fields at x (B, C, H, W) and t (B,)."""


class Sampler(Protocol):
    """Stateless: takes noise at t = 1 to a sample at t = 0."""

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate from `x` (B, C, H, W); every random number comes from `draws`."""


class Guidance(Protocol):
    """Turns conditional and unconditional outputs into one."""

    def __call__(self, output: Output, x: Tensor, t_B: Tensor, cond: Conditioning, /) -> Tensor:
        """The guided output; calls `output` only where it is needed."""


@attrs.frozen(kw_only=True)
class SamplerConfig(ABC):
    """Settings of a sampler."""

    @property
    @abstractmethod
    def evaluations(self) -> int | None:
        """Network evaluations of one sample; None where they depend on the sample."""

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
