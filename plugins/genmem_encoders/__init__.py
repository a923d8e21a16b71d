"""The tokenizer and the encoders that need no weights: pixels, principal components, random filters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import attrs

from genmem import hookimpl
from genmem.contracts import Encoder, EncoderConfig, Record, Tokenizer, TokenizerConfig


def _at_least_one(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


@attrs.frozen(kw_only=True)
class PixelTokenizerConfig(TokenizerConfig):
    """Samples are the pixels themselves, between -1 and 1."""

    def sample_shape(self, picture_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """That of the picture, channels first."""
        height, width, channels = picture_shape
        return channels, height, width

    def record(self, shape: tuple[int, int, int]) -> Record:
        """One byte a pixel and channel."""
        return Record(shape, "uint8")

    def build(self) -> Tokenizer:
        """The tokenizer."""
        from genmem_encoders.tokenizer import PixelTokenizer

        return PixelTokenizer()


@attrs.frozen(kw_only=True)
class PreviewTokenizerConfig(TokenizerConfig):
    """Pixels; of samples with more than three channels the first three: latents without a decoder."""

    shows_any: ClassVar[bool] = True

    def build(self) -> Tokenizer:
        """The tokenizer."""
        from genmem_encoders.tokenizer import PreviewTokenizer

        return PreviewTokenizer()


@attrs.frozen(kw_only=True)
class PixelEncoderConfig(EncoderConfig):
    """The pixels in a row, between -1 and 1."""

    def build(self) -> Encoder:
        """The encoder."""
        from genmem_encoders.pixels import PixelEncoder

        return PixelEncoder()


def _content(file: str | None) -> str | None:
    """What identifies components found elsewhere: the sha256 of their file, once it is there."""
    if file is None or not Path(file).is_file():
        return file
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@attrs.frozen(kw_only=True)
class ComponentConfig(EncoderConfig):
    """What encoders of principal components share."""

    width: int = attrs.field(default=16, validator=_at_least_one)
    """Components kept; of a patch's token, and of the mean over tokens."""

    weights: str | None = attrs.field(default=None, eq=_content)
    """Components found on other pictures, so that features of two sets mean the same: another set's
    encoders/NAME.safetensors. Found on the training pictures if absent."""

    @property
    def pooled_width(self) -> int:
        """As many numbers as components."""
        return self.width


@attrs.frozen(kw_only=True)
class PcaConfig(ComponentConfig):
    """The leading principal components of the pixels."""

    def build(self) -> Encoder:
        """The encoder, before `fit`."""
        from genmem_encoders.pca import PcaEncoder

        return PcaEncoder(self.width, self.weights)


@attrs.frozen(kw_only=True)
class PatchPcaConfig(ComponentConfig):
    """The leading principal components of every patch: tokens to align hidden states with."""

    patch: int = attrs.field(default=2, validator=_at_least_one)
    """Side of a patch in pixels; divides height and width of a picture. The backbone's patch, times
    the pixels that a latent stands for, gives a token for each of its tokens."""

    context: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Pixels around the patch that its token sees too; outside the picture its border goes on."""

    def build(self) -> Encoder:
        """The encoder, before `fit`."""
        from genmem_encoders.patch_pca import PatchPcaEncoder

        return PatchPcaEncoder(self.width, self.patch, self.context, self.weights)


@attrs.frozen(kw_only=True)
class RandomConvConfig(EncoderConfig):
    """A small convolutional network with random weights that never change."""

    width: int = attrs.field(default=64, validator=_at_least_one)
    """Numbers in the feature: channels of the last layer times cells of the grid."""

    grid: int = attrs.field(default=2, validator=_at_least_one)
    """The last layer's map is averaged over grid x grid cells."""

    hidden: int = attrs.field(default=32, validator=_at_least_one)
    """Channels of the layers before the last."""

    layers: int = attrs.field(default=3, validator=_at_least_one)
    """Convolutions of 3 x 3; every second one halves the picture, while it is large enough."""

    seed: int = 0
    """Of the weights."""

    tokens: bool = False
    """Give the last layer's map too, one token a place."""

    def __attrs_post_init__(self) -> None:
        """Refuse a width that the cells cannot share."""
        cells = self.grid**2
        if self.width % cells:
            near = self.width - self.width % cells
            raise ValueError(
                f"width must be a multiple of grid * grid = {cells}, got {self.width}; "
                f"take {' or '.join(str(w) for w in (near, near + cells) if w)}"
            )

    def build(self) -> Encoder:
        """The encoder."""
        from genmem_encoders.random_conv import RandomConvEncoder

        return RandomConvEncoder(self)


@hookimpl
def genmem_tokenizers() -> dict[str, type[TokenizerConfig]]:
    """The tokenizers this plugin registers."""
    return {"pixels": PixelTokenizerConfig, "preview": PreviewTokenizerConfig}


@hookimpl
def genmem_encoders() -> dict[str, type[EncoderConfig]]:
    """The encoders this plugin registers."""
    return {
        "pixels": PixelEncoderConfig,
        "pca": PcaConfig,
        "patch-pca": PatchPcaConfig,
        "random-conv": RandomConvConfig,
    }
