"""Encoders of published vision networks: timm's vision transformers, CLIP, and the Inception of FID."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Encoder, EncoderConfig


def _at_least_one(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


@attrs.frozen(kw_only=True)
class PublishedConfig(EncoderConfig):
    """What the encoders here share. Where weights lie is no property of a feature; their hash is."""

    learns: ClassVar[bool] = False

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's arithmetic; features are float32."""

    batch: int = attrs.field(default=64, eq=False, validator=_at_least_one)
    """Pictures that go through the network at once."""


@attrs.frozen(kw_only=True)
class VisionConfig(PublishedConfig):
    """What the transformers share."""

    tokens: bool = False
    """Give the patches' tokens too, (L, D) a picture, row by row."""

    antialias: bool = False
    """Smooth before pictures are made smaller. REPA does not."""


@attrs.frozen(kw_only=True)
class TimmConfig(VisionConfig):
    """A vision transformer of timm, DINOv2 for one. Grey pictures become three equal colours."""

    name: str
    """As timm calls it, with its tag: "vit_base_patch14_dinov2.lvd142m"."""

    weights: str = attrs.field(default="", eq=False)
    """Its weights, a safetensors file or a folder with model.safetensors."""

    pretrained: bool = attrs.field(default=False, eq=False)
    """Fetch the weights from the Hugging Face hub."""

    size: int = attrs.field(default=224, validator=_at_least_one)
    """Side that pictures are resized to, bicubic; a multiple of the network's patch."""

    pooled: Literal["cls", "mean"] = "cls"
    """The feature of a picture: the class token, or the mean over the patches' tokens."""

    def __attrs_post_init__(self) -> None:
        """Refuse no weights, and two kinds of them."""
        if bool(self.weights) == self.pretrained:
            raise ValueError(
                'give weights = "FILE.safetensors", or pretrained = true where a network exists; one of them'
            )

    def build(self) -> Encoder:
        """The encoder; weights are read when they are first needed."""
        from genmem_vision.encoder import VisionEncoder
        from genmem_vision.timm_network import TimmNetwork

        return VisionEncoder("timm", self, TimmNetwork(self))


@attrs.frozen(kw_only=True)
class ClipConfig(VisionConfig):
    """CLIP's network for pictures: its projection, and its tokens. Grey becomes three equal colours."""

    path: str = attrs.field(default="", eq=False)
    """Folder with config.json and model.safetensors; empty: the hub is asked."""

    hub: str = attrs.field(default="openai/clip-vit-large-patch14", eq=False)
    """Its name on the Hugging Face hub, used where `path` is empty."""

    def build(self) -> Encoder:
        """The encoder; weights are read when they are first needed."""
        from genmem_vision.clip_network import ClipNetwork
        from genmem_vision.encoder import VisionEncoder

        return VisionEncoder("clip", self, ClipNetwork(self))


@attrs.frozen(kw_only=True)
class InceptionConfig(PublishedConfig):
    """The Inception network of FID, as torch-fidelity has it: pooled features, logits, an early map.

    Pictures are resized to 299 as TensorFlow did; grey ones become three equal colours.
    """

    weights: str = attrs.field(default="", eq=False)
    """Its weights: torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or safetensors of it."""

    sha256: str = attrs.field(default="", eq=False)
    """What the file's hash must be, or that of its tensors; anything if empty."""

    pretrained: bool = attrs.field(default=False, eq=False)
    """Fetch the published weights, where a network exists."""

    def __attrs_post_init__(self) -> None:
        """Refuse no weights, and two kinds of them."""
        if bool(self.weights) == self.pretrained:
            raise ValueError(
                'give weights = "FILE", or pretrained = true where a network exists; one of them'
            )

    def build(self) -> Encoder:
        """The encoder; weights are read when they are first needed."""
        from genmem_vision.inception import InceptionEncoder

        return InceptionEncoder(self)


@hookimpl
def genmem_encoders() -> dict[str, type[EncoderConfig]]:
    """The encoders this plugin registers."""
    return {"timm": TimmConfig, "clip": ClipConfig, "inception": InceptionConfig}
