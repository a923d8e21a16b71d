"""Settings of the dispersive losses. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import attrs

from genmem.contracts import Facts, TappedConfig

if TYPE_CHECKING:
    from torch import nn

Group = int | Literal["global"]

_above_0 = attrs.validators.optional(attrs.validators.gt(0.0))
_gap = attrs.validators.optional(attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(1.0)))


class Preset(NamedTuple):
    """What the paper's two implementations set differently."""

    group: int
    temperature: float


PRESETS: Mapping[str, Preset] = {"paper": Preset(16, 0.5), "torch": Preset(32, 1.0)}

READS: Mapping[str, tuple[str, ...]] = {"temperature": ("infonce-l2", "infonce-cos"), "margin": ("hinge",)}
"""{key: the forms that read it}."""

MARGIN, GAP = 1.0, 0.005


@attrs.frozen(kw_only=True)
class DispersiveConfig(TappedConfig):
    """Dispersive loss (Wang & He 2025): spread the hidden states of a batch apart."""

    form: Literal["infonce-l2", "infonce-cos", "hinge", "covariance"] = "infonce-l2"
    """Which loss. The README has the equations."""

    preset: Literal["paper", "torch"] = "paper"
    """`paper`: groups of 16, τ = 0.5 (with weight 0.5 and tap_fraction 0.25). `torch`: groups of
    32, τ = 1, as the authors' PyTorch code (with weight 0.25 and the last block). Weight and tap
    are keys of their own."""

    temperature: float | None = attrs.field(default=None, validator=_above_0)
    """τ of the two InfoNCE forms; the preset's if absent."""

    margin: float | None = attrs.field(default=None, validator=_above_0)
    """ε of hinge, the mean squared difference from which a pair no longer repels; 1 if absent. The
    paper's value is not known to us; 1 is our choice, where healthy differences are of that order."""

    group: int | Literal["global"] | None = None
    """Consecutive samples of the global batch that repel each other, or "global" for all of it;
    the preset's if absent."""

    pool: Literal["none", "mean"] = "none"
    """`none`: tokens and channels as one long vector, as the paper. `mean`: the mean over tokens,
    without which covariance, whose rank is below `group`, stays near its floor."""

    positive: Literal["none", "independent", "restricted"] = "none"
    """The contrastive twin: a second, noisy view of each sample, by one more forward, is pulled
    close. `independent`: with its own time and noise. `restricted`: the same noise at a time nearby."""

    positive_gap: float | None = attrs.field(default=None, validator=_gap)
    """Greatest difference between the times of restricted views; 0.005 if absent."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for key, forms in READS.items():
            if getattr(self, key) is not None and self.form not in forms:
                raise ValueError(
                    f'form = "{self.form}" does not read {key}, got {key} = {getattr(self, key)}; '
                    f"leave it out, or take form = {' or '.join(map(_quote, forms))}"
                )
        if self.positive_gap is not None and self.positive != "restricted":
            raise ValueError(
                f'positive = "{self.positive}" does not read positive_gap, got {self.positive_gap}; '
                'leave it out, or take positive = "restricted"'
            )
        if isinstance(self.group, int) and self.group < self._least:
            raise self._too_small(f"group = {self.group}")

    @property
    def resolved(self) -> tuple[Group, float]:
        """Group and temperature, the preset's where they are absent."""
        preset = PRESETS[self.preset]
        group = preset.group if self.group is None else self.group
        return group, preset.temperature if self.temperature is None else self.temperature

    @property
    def resolved_margin(self) -> float:
        """ε."""
        return MARGIN if self.margin is None else self.margin

    @property
    def resolved_gap(self) -> float:
        """The greatest difference between the times of restricted views."""
        return GAP if self.positive_gap is None else self.positive_gap

    @property
    def coupling(self) -> Group:
        """The group."""
        return self.resolved[0]

    def warn(self, metrics: Mapping[str, float]) -> str | None:
        """That the loss has reached its floor, where its gradient ends."""
        if self.positive != "none" or metrics.get("above_floor", 1.0) > 1e-3:
            return None
        way_out = {
            "covariance": 'pool = "mean" or larger groups leave it room',
            "hinge": "all pairs differ by more than the margin; a larger one goes on",
        }.get(self.form, "all are far apart; a higher temperature goes on")
        return f"the {self.form} loss is at its floor and no longer changes anything: {way_out}"

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_dispersive.dispersive.Dispersive`.

        Raises:
            ValueError: A global batch that is too small for the loss, or is not whole groups.
        """
        from genmem_dispersive.dispersive import Dispersive

        group = self.coupling
        if facts.batch and group == "global" and facts.batch < self._least:
            raise self._too_small(f'group = "global" with a global batch of {facts.batch}')
        if facts.batch and isinstance(group, int) and facts.batch % group:
            raise ValueError(
                f"a global batch of {facts.batch} is not whole groups of {group}; "
                'take a `group` that divides it, or "global"'
            )
        return Dispersive(self, self.taps(len(facts.tap_widths)))

    @property
    def _least(self) -> int:
        # Two samples, standardised, are ±1/√2 in every dimension, so every Cov² is 1.
        return 3 if self.form == "covariance" else 2

    def _too_small(self, found: str) -> ValueError:
        return ValueError(
            f"{found} leaves fewer than {self._least} samples to repel each other, so the loss is "
            "constant; take larger groups, or, where memory allows only few samples, an objective with "
            "a memory of negatives"
        )


def _quote(name: str) -> str:
    return f'"{name}"'
