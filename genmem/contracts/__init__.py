"""The contracts: what each seat of the registry takes and gives. No torch at import.

Everything a plugin implements or receives is defined here, one file a seat.
"""

from genmem.contracts.backbone import Backbone, BackboneConfig, Conditioning, Count, Prediction
from genmem.contracts.data import (
    Batch,
    DatasetFolder,
    Encoded,
    Encoder,
    EncoderConfig,
    ManyOutputs,
    OnDevice,
    Reads,
)
from genmem.contracts.facts import Facts
from genmem.contracts.format import Fit, Format, FormatConfig, Reading
from genmem.contracts.interpolant import (
    Coefficients,
    Fields,
    Interpolant,
    InterpolantConfig,
    Regression,
    TimeRange,
    Times,
)
from genmem.contracts.memory import Ability, Attended, Hide, MemoryStore, Metric, Tags
from genmem.contracts.memory_config import Extent, MemoryConfig
from genmem.contracts.notifier import Ending, Notifier, NotifierConfig, RunStart
from genmem.contracts.objective import (
    AuxObjective,
    Commits,
    Objective,
    ObjectiveConfig,
    Step,
    TappedConfig,
)
from genmem.contracts.sampler import Evaluate, Guidance, GuidanceConfig, Output, Sampler, SamplerConfig
from genmem.contracts.source import (
    Source,
    SourceConfig,
    SourceExtent,
    Split,
    Stored,
    StoredSource,
    UnreadablePicture,
)
from genmem.contracts.tokenizer import LatentSpec, Record, Tokenizer, TokenizerConfig

__all__ = [
    "Ability",
    "Attended",
    "AuxObjective",
    "Backbone",
    "BackboneConfig",
    "Batch",
    "Coefficients",
    "Commits",
    "Conditioning",
    "Count",
    "DatasetFolder",
    "Encoded",
    "Encoder",
    "EncoderConfig",
    "Ending",
    "Evaluate",
    "Extent",
    "Facts",
    "Fields",
    "Fit",
    "Format",
    "FormatConfig",
    "Guidance",
    "GuidanceConfig",
    "Hide",
    "Interpolant",
    "InterpolantConfig",
    "LatentSpec",
    "ManyOutputs",
    "MemoryConfig",
    "MemoryStore",
    "Metric",
    "Notifier",
    "NotifierConfig",
    "Objective",
    "ObjectiveConfig",
    "OnDevice",
    "Output",
    "Prediction",
    "Reading",
    "Reads",
    "Record",
    "Regression",
    "RunStart",
    "Sampler",
    "SamplerConfig",
    "Source",
    "SourceConfig",
    "SourceExtent",
    "Split",
    "Step",
    "Stored",
    "StoredSource",
    "Tags",
    "TappedConfig",
    "TimeRange",
    "Times",
    "Tokenizer",
    "TokenizerConfig",
    "UnreadablePicture",
]
