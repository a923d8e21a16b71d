"""Dispersive loss: repulsion between the hidden states of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import attrs

from genmem import hookimpl
from genmem.contracts import Facts, ObjectiveConfig, TappedConfig

if TYPE_CHECKING:
    from torch import nn

Group = int | Literal["global"]


class Preset(NamedTuple):
    """What the paper's two implementations set differently."""

    group: int
    temperature: float


PRESETS: Mapping[str, Preset] = {"paper": Preset(16, 0.5), "torch": Preset(32, 1.0)}


@attrs.frozen(kw_only=True)
class DispersiveConfig(TappedConfig):
    """Dispersive loss (Wang & He 2025): spread the hidden states of a batch apart."""

    preset: Literal["paper", "torch"] = "paper"
    """`paper`: groups of 16, τ = 0.5 (with weight 0.5 and tap_fraction 0.25). `torch`: groups of
    32, τ = 1, as the authors' PyTorch code (with weight 0.25 and the last block). Weight and tap
    are keys of their own."""

    form: Literal["infonce-l2"] = "infonce-l2"
    """Which dispersive loss."""

    temperature: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0.0))
    )
    """τ; the preset's if absent."""

    group: int | Literal["global"] | None = None
    """Consecutive samples of the global batch that repel each other, or "global" for all of it;
    the preset's if absent."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if isinstance(self.group, int) and self.group < 2:
            raise _too_small(f"group = {self.group}")

    @property
    def resolved(self) -> tuple[Group, float]:
        """Group and temperature, the preset's where they are absent."""
        preset = PRESETS[self.preset]
        group = preset.group if self.group is None else self.group
        return group, preset.temperature if self.temperature is None else self.temperature

    @property
    def coupling(self) -> Group:
        """The group."""
        return self.resolved[0]

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_dispersive.dispersive.Dispersive`.

        Raises:
            ValueError: A global batch of one sample, or one that is not whole groups.
        """
        from genmem_dispersive.dispersive import Dispersive

        group, temperature = self.resolved
        if facts.batch and group == "global" and facts.batch < 2:
            raise _too_small(f'group = "global" with a global batch of {facts.batch}')
        if facts.batch and isinstance(group, int) and facts.batch % group:
            raise ValueError(f"a global batch of {facts.batch} is not whole groups of {group}")
        (tap,) = self.taps(len(facts.tap_widths))
        return Dispersive(tap, temperature, group)


def _too_small(found: str) -> ValueError:
    return ValueError(
        f"{found} leaves fewer than 2 samples to repel each other, so the loss is constant; take "
        "larger groups, or, where memory allows only few samples, an objective with a memory of negatives"
    )


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"dispersive": DispersiveConfig}
