"""The AuxObjective seat: a loss beside the denoising loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import attrs

from genmem.contracts.backbone import Conditioning, Prediction
from genmem.contracts.facts import Facts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genmem.contracts.data import Batch
    from genmem.contracts.interpolant import Interpolant, Times
    from genmem.contracts.memory import Ability, MemoryStore
    from genmem.draws import Draws

    Again = Callable[..., Prediction]


@attrs.frozen(kw_only=True)
class Step:
    """Everything an objective may look at: one micro-batch, after its denoising forward."""

    batch: Batch
    """Labels, features, sample numbers and views, as streamed."""

    x: Tensor
    noise: Tensor
    times: Times
    x_t: Tensor
    target: Tensor

    cond: Conditioning
    """What the network was given, after dropout for guidance."""

    prediction: Prediction
    images_seen: int
    draws: Draws
    memories: Mapping[str, MemoryStore]
    interpolant: Interpolant

    again: Again
    """A further forward, `again(x_t, t, cond, *, taps=(), until=None, weights="online")`.

    `weights` may name an EMA ("ema"); such a forward carries no gradient. Who asks, pays.
    """


class Objective(NamedTuple):
    """What an objective returns."""

    value: Tensor
    """Scalar, mean over the micro-batch; minimised after multiplication by the weight."""

    metrics: dict[str, Tensor] = {}  # noqa: RUF012 - never mutated
    """Scalars to log."""


class AuxObjective(Protocol):
    """A `torch.nn.Module`; may own parameters (a head), never holds the backbone."""

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32 under any autocast."""


@attrs.frozen(kw_only=True)
class ObjectiveConfig(ABC):
    """Settings of an objective. `weight`, `start`, `ramp`, `stop` belong to core, not here."""

    def taps(self, depth: int) -> tuple[int, ...]:
        """Hidden states it needs, as numbers of blocks, for a backbone of `depth` blocks."""
        return ()

    @property
    def needs(self) -> Mapping[str, frozenset[Ability]]:
        """{memory name in the recipe: abilities asked of it}."""
        return {}

    @property
    def features(self) -> frozenset[str]:
        """Per-sample features it needs in the shards."""
        return frozenset()

    @property
    def coupling(self) -> int | Literal["global"] | None:
        """Samples of the global batch its loss couples: that many consecutive ones, or all."""
        return None

    @abstractmethod
    def build(self, facts: Facts) -> nn.Module:
        """The objective, an `AuxObjective`.

        Raises:
            ValueError: Where it would mean nothing (a group of one, say).
        """


@attrs.frozen(kw_only=True)
class TappedConfig(ObjectiveConfig):
    """An objective that looks at one hidden state: `tap = 8` or `tap_fraction = 0.25`."""

    tap: int | None = None
    """Hidden state after this many blocks, 1 … depth."""

    tap_fraction: float | None = None
    """The same as a share of the depth: max(1, floor(fraction · depth))."""

    def __attrs_post_init__(self) -> None:
        if (self.tap is None) == (self.tap_fraction is None):
            raise ValueError("give either tap (a number of blocks) or tap_fraction (a share of the depth)")
        if self.tap_fraction is not None and not 0 < self.tap_fraction <= 1:
            raise ValueError(f"tap_fraction must be in (0, 1], got {self.tap_fraction}")

    def taps(self, depth: int) -> tuple[int, ...]:
        """The one tap."""
        if self.tap is not None:
            return (self.tap,)
        assert self.tap_fraction is not None
        return (max(1, math.floor(self.tap_fraction * depth)),)
