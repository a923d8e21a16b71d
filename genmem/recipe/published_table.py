"""The `[published.NAME]` tables of a recipe: what others published for its setting."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from genmem.recipe.limits import positive
from genmem.recipe.seats import Images

COUNTS = ("parameters", "macs")
"""Metrics of a network, which no training and no sampler moves."""


def _said(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} must say something")


@attrs.frozen(kw_only=True)
class PublishedTable:
    """A number that somebody published: borrowed, to compare a run with, never a result of ours.

    It belongs to the recipe that writes it alone: recipes that extend it do not inherit it, and an
    override of the method takes it away. It changes nothing of a run.
    """

    metric: Literal["fid", "sfid", "is", "precision", "recall", "parameters", "macs"]
    """What the number is; MACs of one forward of one sample."""

    value: float
    """The number as it was published."""

    source: str = attrs.field(validator=_said)
    """Where it stands: paper and table, or repository."""

    evidence: Literal["paper", "code", "second-hand"] = "paper"
    """How we know it: the paper or its authors' page, their code, or somebody's copy of it."""

    images: Images | None = attrs.field(default=None, validator=positive)
    """Images seen in training; every score has them."""

    samples: int = attrs.field(default=50_000, validator=positive)
    """Samples scored."""

    sampler: str = ""
    """Sampler and steps, in its authors' terms; every score has them."""

    guidance: str = "none"
    """Guidance, in its authors' terms."""

    note: str = ""
    """What else moves it, or what is not known."""

    def __attrs_post_init__(self) -> None:
        if self.metric not in COUNTS and (self.images is None or not self.sampler):
            raise ValueError(
                f"{self.metric} = {self.value:g} says nothing without `images` and `sampler`: "
                'give what is known, "not known" for the sampler if need be'
            )
