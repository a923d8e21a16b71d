"""The `[data]` table of a recipe."""

# `seat` makes an attrs field, which is no shared default:
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping

import attrs

from genmem.contracts import EncoderConfig, SourceConfig, TokenizerConfig
from genmem.recipe.limits import not_negative, positive
from genmem.recipe.seats import Seat, seat, seats


@attrs.frozen(kw_only=True)
class ExpectTable:
    """What the prepared set holds. With it a recipe can be built and counted where the set is not."""

    sample_shape: tuple[int, int, int]
    """C, H, W of a sample, after the tokenizer."""

    num_classes: int = attrs.field(default=0, validator=not_negative)
    """Classes; 0 where there are no labels."""

    num_samples: int = attrs.field(default=0, validator=not_negative)
    """Training samples; 0 where that is left open."""

    features: Mapping[str, int] = attrs.field(factory=dict)
    """Width of every per-sample feature that the recipe uses, by name."""


@attrs.frozen(kw_only=True)
class DataTable:
    """Where samples come from."""

    path: str
    """Folder of the prepared set, relative to the current folder; made from the source if missing."""

    source: Seat[SourceConfig] | None = seat("source", optional=True)
    """What to prepare the set from, if it does not exist."""

    tokenizer: Seat[TokenizerConfig] = seat("tokenizer")
    """Between pictures and samples."""

    encoder: Mapping[str, Seat[EncoderConfig]] = seats("encoder")
    """Per-sample features to store, by name."""

    expect: ExpectTable | None = None
    """What the set is expected to hold; compared with it when it is opened."""

    shard_size: int = attrs.field(default=1000, validator=positive)
    """Samples in a shard, when preparing."""

    workers: int = attrs.field(default=0, validator=not_negative)
    """Threads that read ahead."""
