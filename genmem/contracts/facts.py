"""What a component may know when it is built: facts, never the recipe."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Facts:
    """Shapes and counts that one component fixes and another needs.

    Memories are built first (they give widths), then the backbone, then objectives.
    """

    sample_shape: tuple[int, int, int]
    """C, H, W of a sample, after the tokenizer."""

    output_channels: int
    """Channels the interpolant asks of the network (2C where a variance is learned)."""

    predicts_velocity: bool = True
    """Whether the first C of them are dx/dt, whose sign depends on the direction of time."""

    num_classes: int = 0
    """Classes whose label reaches the network; 0 where none does."""

    num_samples: int = 0
    """Samples in the training set; 0 where it is not known yet."""

    views: int = 1
    """2 where mirrored twins of the training samples are stored."""

    batch: int = 0
    """Global batch size."""

    condition_width: int = 0
    """Width E of the memory that conditions the network; 0 where none does."""

    memory_widths: Mapping[str, int] = attrs.field(factory=dict)
    """Width E of every memory, by its name in the recipe."""

    memory_rows: Mapping[str, int] = attrs.field(factory=dict)
    """Rows every memory holds, or has room for, by its name."""

    tap_widths: Mapping[int, int] = attrs.field(factory=dict)
    """Width D of the hidden state after block k, for k = 1 … depth."""

    feature_widths: Mapping[str, int] = attrs.field(factory=dict)
    """Width of every per-sample feature in the shards, by its name."""
