"""Objectives on the velocity itself: away from other samples' (`contrastive-flow`), its direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Facts, ObjectiveConfig

if TYPE_CHECKING:
    from torch import nn

_LARGE = 3.0


@attrs.frozen(kw_only=True)
class ContrastiveFlowConfig(ObjectiveConfig):
    """Contrastive flow matching (ΔFM 2025): the velocity keeps away from another sample's."""

    group: int | Literal["global"] = 16
    """The other sample is one of as many consecutive ones of the global batch, or "global": of all."""

    other_class: bool = False
    """Take a sample of another class, where the group has one."""

    skip_dropped: bool = False
    """Leave out samples whose condition was dropped for guidance; the others of the group then count
    for more, so that their sum is what it was."""

    def __attrs_post_init__(self) -> None:
        if isinstance(self.group, int) and self.group < 2:
            raise _alone(f"group = {self.group}")

    @property
    def coupling(self) -> int | Literal["global"]:
        """The group."""
        return self.group

    def warn(self, metrics: Mapping[str, float]) -> str | None:
        """Where the prediction has grown far beyond the targets."""
        scale = metrics.get("scale", 0.0)
        if scale <= _LARGE:
            return None
        return (
            f"the prediction is {scale:.1f} times as large as its targets: with a weight of 1 or more this "
            "loss has no floor; lower the weight (0.05 is the authors')"
        )

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_velocity.contrastive.ContrastiveFlow`.

        Raises:
            ValueError: A global batch of one sample.
        """
        from genmem_velocity.contrastive import ContrastiveFlow

        if facts.batch == 1:
            raise _alone("a global batch of 1")
        return ContrastiveFlow(self.group, other_class=self.other_class, skip_dropped=self.skip_dropped)


def _alone(found: str) -> ValueError:
    return ValueError(f"{found} has no other sample to keep away from; take groups of 2 or more")


@attrs.frozen(kw_only=True)
class DirectionConfig(ObjectiveConfig):
    """Velocity direction (LightningDiT): one less the cosine between prediction and target."""

    over: Literal["channels", "sample"] = "channels"
    """What a direction is: the channels at one place (LightningDiT), or a whole sample, which is ours,
    for samples of a single channel."""

    floor: float = attrs.field(default=1e-2, validator=attrs.validators.gt(0.0))
    """Root mean square below which a prediction counts as this large."""

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_velocity.direction.Direction`.

        Raises:
            ValueError: Directions over a single channel.
        """
        from genmem_velocity.direction import Direction

        if self.over == "channels" and facts.sample_shape[0] < 2:
            raise ValueError(
                "samples have 1 channel, and the cosine between two numbers is a sign, which has no "
                'gradient; take over = "sample"'
            )
        return Direction(self.over, self.floor)


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"contrastive-flow": ContrastiveFlowConfig, "direction": DirectionConfig}
