"""The `[data]` table of a recipe."""

# `seat` makes an attrs field, which is no shared default:
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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
    """Folder of the prepared set, relative to the current folder, made from the source if missing; or
    the URL of a set prepared elsewhere."""

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

    views: Literal[1, 2] | None = None
    """2: mirrored twins are stored, and a coin per sample and epoch decides for latent, features and
    memory row together. As many as the set has if absent; 1 when preparing."""

    precision: Literal["fp32", "fp16"] | None = None
    """Of stored features and latents (pixels are bytes); as encoders and tokenizer give them if absent."""

    encode_batch: int = attrs.field(default=64, validator=positive)
    """Pictures that tokenizer and encoders are given at once, when preparing."""

    workers: int = attrs.field(default=0, validator=not_negative)
    """Threads that read ahead."""

    lanes: int = attrs.field(default=1, validator=positive)
    """Streams the shards are dealt to; with more than one, a process reads whole lanes and no others."""

    window: int | None = attrs.field(default=None, validator=positive)
    """Shards of a lane whose samples are permuted together; all if absent."""

    check: bool = False
    """Compare every record read with its checksum."""

    damage: Literal["stop", "skip"] = "stop"
    """When a sample is damaged: end the run; or leave the picture out when preparing, and put another
    sample in its place when training."""

    max_skipped: int = attrs.field(default=100, validator=not_negative)
    """Damaged samples, or pictures, beyond which "skip" ends the run too."""

    cache: str = "~/.cache/genmem"
    """Folder for pieces of sets that lie at a URL; several runs may share it."""

    cache_bytes: int = attrs.field(default=1 << 36, validator=positive)
    """Bytes of shards to keep there; those used longest ago go first."""
