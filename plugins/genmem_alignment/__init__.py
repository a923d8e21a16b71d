"""Alignment of hidden states: with an encoder's tokens (`repa`), or with a later block (`layersync`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Facts, ObjectiveConfig, TappedConfig

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class RepaConfig(TappedConfig):
    """REPA (Yu et al. 2024): hidden tokens, projected, point where an encoder's tokens point."""

    several_taps: ClassVar[bool] = False

    encoders: tuple[str, ...]
    """Names of [data.encoder.NAME] that give tokens, as many as the backbone has."""

    projector: Literal["mlp", "conv"] = "mlp"
    """From hidden width to encoder width: three linear layers with SiLU between (REPA), or one
    3 x 3 convolution over the grid of tokens (iREPA). One for each encoder."""

    projector_width: int = attrs.field(default=2048, validator=attrs.validators.ge(1))
    """Width inside the MLP."""

    normalise: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(0.0))
    )
    """γ of iREPA's spatial normalisation of the target, (y - γ · mean) / deviation over tokens; the
    tokens as they are if absent."""

    structure: float = attrs.field(default=0.0, validator=attrs.validators.ge(0.0))
    """Weight, beside the alignment, of SARA's structural term: the cosines between all pairs of tokens
    are to be the target's."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.encoders or len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoders names different ones, at least one; got {list(self.encoders)}")

    @property
    def features(self) -> frozenset[str]:
        """The tokens of every encoder."""
        return frozenset(tokens_of(name) for name in self.encoders)

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_alignment.repa.Repa`.

        Raises:
            ValueError: An encoder that gives no tokens.
        """
        from genmem_alignment.repa import Repa

        for name in self.encoders:
            if tokens_of(name) not in facts.feature_widths:
                raise ValueError(
                    f"encoder {name!r} gives no tokens to align with; there are the features "
                    f"{sorted(facts.feature_widths)}: take an encoder that gives tokens, or switch them on"
                )
        (tap,) = self.taps(max(facts.tap_widths))
        return Repa(self, tap, facts)


def tokens_of(encoder: str) -> str:
    """The feature that an encoder's tokens are stored as."""
    return f"{encoder}.tokens"


@attrs.frozen(kw_only=True)
class LayerSyncConfig(TappedConfig):
    """LayerSync (2025): hidden tokens point where those of a later block point. No parameters."""

    several_taps: ClassVar[bool] = False

    target: int | None = None
    """Block whose hidden state is the target; it gets no gradient. Later than the tap."""

    target_fraction: float | None = None
    """The same as a share of the depth."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if (self.target is None) == (self.target_fraction is None):
            raise ValueError(
                "give either target (a number of blocks) or target_fraction (a share of the depth)"
            )
        if self.target_fraction is not None and not 0 < self.target_fraction <= 1:
            raise ValueError(f"target_fraction must be in (0, 1], got {self.target_fraction}")

    def pair(self, depth: int) -> tuple[int, int]:
        """k and k': the block that is trained, and the block it follows.

        Raises:
            ValueError: k' ≤ k. At k' = k the loss is -1 whatever the network does.
        """
        (tap,) = super().taps(depth)
        target = self.target
        if target is None:
            assert self.target_fraction is not None
            target = max(1, math.floor(self.target_fraction * depth))
        if target <= tap:
            raise ValueError(
                f"the target is the state after block {target}, the tap after block {tap}: a state aligned "
                "with itself has a constant loss, and with an earlier one it unlearns; take a later target"
            )
        return tap, target

    def taps(self, depth: int) -> tuple[int, ...]:
        """Both states."""
        return self.pair(depth)

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_alignment.layersync.LayerSync`.

        Raises:
            ValueError: States of two widths.
        """
        from genmem_alignment.layersync import LayerSync

        tap, target = self.pair(max(facts.tap_widths))
        widths = facts.tap_widths[tap], facts.tap_widths[target]
        if widths[0] != widths[1]:
            raise ValueError(
                f"the states after blocks {tap} and {target} are {widths[0]} and {widths[1]} wide, and there "
                "is no projector between them; take blocks of one width"
            )
        return LayerSync(tap, target)


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"repa": RepaConfig, "layersync": LayerSyncConfig}
