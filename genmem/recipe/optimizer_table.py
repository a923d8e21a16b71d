"""The `[optimizer]` table of a recipe."""

# `tables` makes an attrs field, which is no shared default:

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import attrs

from genmem.recipe.limits import not_negative, positive, share
from genmem.recipe.seats import Images, tables


@attrs.frozen(kw_only=True)
class GroupTable:
    """Parameters with settings of their own."""

    parameters: tuple[str, ...] = attrs.field(validator=attrs.validators.min_len(1))
    """Patterns of names, as in a shell: "objective.*", "backbone.blocks.0.*"."""

    lr: float | None = attrs.field(default=None, validator=attrs.validators.optional(positive))
    """Learning rate; the optimizer's if absent."""

    weight_decay: float | None = attrs.field(default=None, validator=attrs.validators.optional(not_negative))
    """Weight decay; the optimizer's if absent."""


@attrs.frozen(kw_only=True)
class OptimizerTable:
    """AdamW."""

    lr: float = attrs.field(default=1e-4, validator=positive)
    """Learning rate after warm-up."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the two moments."""

    eps: float = attrs.field(default=1e-8, validator=positive)
    """Added to the denominator."""

    weight_decay: float = attrs.field(default=0.0, validator=not_negative)
    """Decoupled weight decay; 0 in SiT."""

    warmup: Images = attrs.field(default=Images(0), validator=not_negative)
    """Images over which the learning rate grows linearly from 0."""

    schedule: Literal["constant", "cosine-decay"] = "constant"
    """After warm-up: constant, or half a cosine down to `final` at the end of the run."""

    final: float = attrs.field(default=0.0, validator=share)
    """Share of the learning rate that a cosine ends at."""

    clip: float | None = attrs.field(default=None, validator=positive)
    """Largest norm of the gradient."""

    group: Mapping[str, GroupTable] = tables(GroupTable)
    """Parameters with settings of their own, by a name of your choice; the first that matches counts."""

    def factor_at(self, images_seen: int, images: int) -> float:
        """What learning rates are multiplied by in the step that ends at so many of `images` images."""
        if images_seen < self.warmup:
            return images_seen / self.warmup
        if self.schedule == "constant":
            return 1.0
        done = (images_seen - self.warmup) / max(1, images - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
