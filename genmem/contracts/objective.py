"""The AuxObjective seat: a loss beside the denoising loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

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

T = TypeVar("T")


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


@runtime_checkable
class Commits(Protocol):
    """An objective with a state of its own that follows optimizer steps (an average of a head, say)."""

    def commit(self, keep: Tensor) -> None:
        """The optimizer step is done, and was kept if `keep` (bool, 0-dim, on the device).

        Called once in each optimizer step in which the objective acted, on every rank.
        """


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
    def teachers(self) -> frozenset[str]:
        """The [ema.NAME] whose weights it asks for in further forwards."""
        return frozenset()

    @property
    def coupling(self) -> int | Literal["global"] | None:
        """Samples of the global batch its loss couples: that many consecutive ones, or all."""
        return None

    def warn(self, metrics: Mapping[str, float]) -> str | None:
        """A line for the person who watches, from the means of its metrics since the last log line.

        None where all is well. The same line is not repeated while it stands.
        """
        return None

    @abstractmethod
    def build(self, facts: Facts) -> nn.Module:
        """The objective, an `AuxObjective`.

        Raises:
            ValueError: Where it would mean nothing (a group of one, say).
        """


@attrs.frozen(kw_only=True)
class TappedConfig(ObjectiveConfig):
    """An objective that looks at hidden states: `tap = 8`, `tap_fraction = 0.25`, `tap = "all"`.

    A subclass that looks at one state only sets `several_taps = False`.
    """

    several_taps: ClassVar[bool] = True
    """Whether it takes a list of taps, or "all"."""

    tap: int | tuple[int, ...] | Literal["all"] | None = None
    """Hidden state after this many blocks, 1 … depth; a list; or "all"."""

    tap_fraction: float | tuple[float, ...] | None = None
    """The same as shares of the depth: max(1, floor(fraction · depth))."""

    def __attrs_post_init__(self) -> None:
        if (self.tap is None) == (self.tap_fraction is None):
            raise ValueError("give either tap (a number of blocks) or tap_fraction (a share of the depth)")
        given = self.tap if self.tap is not None else self.tap_fraction
        if given == () or (isinstance(given, tuple) and len(set(given)) < len(given)):
            raise ValueError(f"a list of taps names different ones, at least one; got {list(given)}")
        if not self.several_taps and (given == "all" or isinstance(given, tuple)):
            raise ValueError(
                f"looks at one hidden state, got {given if given == 'all' else list(given)}; "
                "give it one, and name another objective for each further one"
            )
        for fraction in _each(self.tap_fraction):
            if not 0 < fraction <= 1:
                raise ValueError(f"tap_fraction must be in (0, 1], got {fraction}")

    def taps(self, depth: int) -> tuple[int, ...]:
        """The taps, in rising order."""
        if self.tap == "all":
            return tuple(range(1, depth + 1))
        shares = (max(1, math.floor(fraction * depth)) for fraction in _each(self.tap_fraction))
        return tuple(sorted({*_each(self.tap), *shares}))


def _each(given: T | tuple[T, ...] | None) -> tuple[T, ...]:
    if given is None:
        return ()
    return given if isinstance(given, tuple) else (given,)
