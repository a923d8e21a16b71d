"""The tables of a recipe: core's own, and the seats where components sit (`genmem.recipe.seats`)."""

# `seat` makes an attrs field, which is no shared default:
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from genmem.contracts import (
    BackboneConfig,
    EncoderConfig,
    GuidanceConfig,
    InterpolantConfig,
    MemoryConfig,
    NotifierConfig,
    ObjectiveConfig,
    SamplerConfig,
)
from genmem.recipe.data_table import DataTable
from genmem.recipe.limits import not_negative, plain_name, positive, share
from genmem.recipe.optimizer_table import GroupTable, OptimizerTable
from genmem.recipe.published_table import PublishedTable
from genmem.recipe.seats import Images, Seat, seat, seats, tables
from genmem.recipe.sweep_table import SweepTable

__all__ = [
    "ConditionTable",
    "DataTable",
    "EmaTable",
    "EvaluateTable",
    "GroupTable",
    "GuardTable",
    "Images",
    "ObjectiveTable",
    "OptimizerTable",
    "PublishedTable",
    "Recipe",
    "Seat",
    "SweepTable",
    "TrainTable",
]


@attrs.frozen(kw_only=True)
class ConditionTable:
    """What the network is told besides the noisy sample and the time."""

    label: bool = False
    """The class label."""

    memory: str | None = None
    """A row of this memory, by its name in the recipe."""

    drop: float = attrs.field(default=0.0, validator=share)
    """Share of samples, drawn one by one, that train without any condition (for guidance)."""


@attrs.frozen(kw_only=True)
class ObjectiveTable:
    """An auxiliary objective and its place in the run."""

    weight: float = attrs.field(validator=not_negative)
    """Factor on its value."""

    start: Images = attrs.field(default=Images(0), validator=not_negative)
    """Images seen when it begins; before, it is not computed."""

    ramp: Images = attrs.field(default=Images(0), validator=not_negative)
    """Images over which the weight grows linearly from 0."""

    stop: Images | None = attrs.field(default=None, validator=positive)
    """Images seen when it ends for good."""

    objective: Seat[ObjectiveConfig] = attrs.field(metadata={"seat": "objective", "inline": True})
    """The component; its keys stand in the same table."""

    def weight_at(self, images_seen: int) -> float:
        """The factor after so many images; 0 where the objective is not active."""
        if images_seen < self.start or (self.stop is not None and images_seen >= self.stop):
            return 0.0
        ramped = (images_seen - self.start) / self.ramp if self.ramp else 1.0
        return self.weight * min(1.0, ramped)


@attrs.frozen(kw_only=True)
class TrainTable:
    """The length and shape of a run."""

    images: Images = attrs.field(validator=positive)
    """Images to see in all."""

    batch: int = attrs.field(validator=positive)
    """Global batch size: images in one optimizer step, whatever the number of processes."""

    micro_batch: int | None = attrs.field(default=None, validator=positive)
    """Images in one forward on one process; the whole local batch if absent."""

    seed: int = attrs.field(default=0, validator=not_negative)
    """Every random number of the run follows from it."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward; parameters, optimizer and EMA are fp32 always. fp16 scales the loss."""

    compile: bool = False
    """Compile the backbone's blocks one by one: minutes at the start, faster steps after."""

    shard: bool = False
    """Split weights, optimizer and averages over the processes (FSDP2), block by block."""

    device: str = "auto"
    """ "auto", "cpu", "cuda", "mps"."""

    timeout: float = attrs.field(default=1800.0, validator=positive)
    """Seconds a process waits for the others before the run ends, and says which did not come."""

    save_every: Images | None = attrs.field(default=None, validator=positive)
    """Images between checkpoints; `evaluate.every` if absent."""

    keep: int = attrs.field(default=2, validator=positive)
    """Checkpoints to keep."""

    keep_every: Images | None = attrs.field(default=None, validator=positive)
    """The first checkpoint after each multiple of so many images stays for good."""

    log_every: Images = attrs.field(default=Images(2048), validator=positive)
    """Images between lines of metrics.jsonl."""

    inspect_every: Images = attrs.field(default=Images(12_800), validator=positive)
    """Images between looks inside: the RMS of every hidden state, and how hard each objective pulls
    on the states it taps beside the denoising loss. A look costs about one more backward."""

    trace: int | None = attrs.field(default=None, validator=positive)
    """Steps to trace with torch's profiler, soon after the run begins or goes on: every operator and
    every allocation, in the run folder's `traces/`."""


@attrs.frozen(kw_only=True)
class GuardTable:
    """What becomes of a run whose loss or gradient is not finite. Such a step is skipped, always."""

    skips: int = attrs.field(default=20, validator=positive)
    """Steps skipped in a row after which the run rolls back: to its last good checkpoint, and on from
    there in another order of samples and with other noise."""

    rollbacks: int = attrs.field(default=3, validator=not_negative)
    """Roll-backs a run may make; when it would need another it stops, with a report."""


@attrs.frozen(kw_only=True)
class EmaTable:
    """One exponential moving average of the backbone's weights, kept in fp32."""

    decay: float = attrs.field(default=0.9999, validator=share)
    """Share kept at each step."""

    ramp: bool = False
    """Begin with (1 + n) / (10 + n) after n steps, while that is smaller."""


@attrs.frozen(kw_only=True)
class EvaluateTable:
    """Scores during and after training."""

    every: Images = attrs.field(validator=positive)
    """Images between scorings."""

    samples: int = attrs.field(default=2048, validator=positive)
    """Samples scored; a score depends on it, so it is part of the protocol."""

    batch: int = attrs.field(default=256, validator=positive)
    """Samples generated at once on one process; no score depends on it."""

    seed: int = attrs.field(default=0, validator=not_negative)
    """Seed of noise and conditions."""

    labels: Literal["uniform", "balanced"] = "uniform"
    """Labels of samples: drawn one by one, or each class in turn; a score depends on it."""

    weights: str = "ema"
    """Which EMA to sample from, by its name, or "online"."""

    encoder: Mapping[str, Seat[EncoderConfig]] = seats("encoder")
    """Feature spaces to score in, by name."""

    copies: str | None = None
    """The feature space, among those, that nearest training pictures are looked up in."""


@attrs.frozen(kw_only=True)
class Recipe:
    """A whole run, every component resolved."""

    name: str = attrs.field(validator=plain_name)
    """Name of the run; the file's, unless given."""

    description: str = ""
    """One line for `genmem recipe list`."""

    plugins: tuple[str, ...] = ()
    """Un-packaged plugin files this recipe needs, relative to the recipe."""

    data: DataTable
    backbone: Seat[BackboneConfig] = seat("backbone")
    interpolant: Seat[InterpolantConfig] = seat("interpolant")
    condition: ConditionTable = ConditionTable()
    memory: Mapping[str, Seat[MemoryConfig]] = seats("memory")
    objective: Mapping[str, ObjectiveTable] = tables(ObjectiveTable)
    sampler: Seat[SamplerConfig] = seat("sampler")
    guidance: Seat[GuidanceConfig] | None = seat("guidance", optional=True)
    train: TrainTable
    optimizer: OptimizerTable = OptimizerTable()
    guard: GuardTable = GuardTable()
    ema: Mapping[str, EmaTable] = tables(EmaTable)
    evaluate: EvaluateTable
    notify: Mapping[str, Seat[NotifierConfig]] = seats("notifier")
    sweep: SweepTable | None = None
    published: Mapping[str, PublishedTable] = tables(PublishedTable)
