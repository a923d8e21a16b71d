"""Encoders of text: character n-grams, which need no weights, and BERT and CLIP from a local folder."""

from __future__ import annotations

from typing import ClassVar

import attrs

from genmem import hookimpl
from genmem.contracts import Encoder, EncoderConfig, Reads


def _at_least_one(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


@attrs.frozen(kw_only=True)
class TextConfig(EncoderConfig):
    """What the encoders here share: they read text, and learn nothing."""

    reads: ClassVar[Reads] = "text"
    learns: ClassVar[bool] = False


@attrs.frozen(kw_only=True)
class NgramsConfig(TextConfig):
    """How often each run of characters occurs, hashed. Needs no weights; knows letters, not meanings."""

    width: int = attrs.field(default=512, validator=_at_least_one)
    """Numbers in the feature."""

    longest: int = attrs.field(default=4, validator=_at_least_one)
    """Runs of 1 to so many characters count."""

    def build(self) -> Encoder:
        """The encoder."""
        from genmem_text.ngrams import NgramEncoder

        return NgramEncoder(self)


@attrs.frozen(kw_only=True)
class PublishedConfig(TextConfig):
    """A network of transformers. Where its folder lies is no property of a feature; its hash is."""

    path: str = attrs.field(eq=False)
    """Folder with config.json, model.safetensors and the tokenizer's files."""

    batch: int = attrs.field(default=64, eq=False, validator=_at_least_one)
    """Texts that go through the network at once."""


@attrs.frozen(kw_only=True)
class BertConfig(PublishedConfig):
    """BERT: its first token, CLS, after the last block."""

    def build(self) -> Encoder:
        """The encoder; weights are read when they are first needed."""
        from genmem_text.published import BertNetwork, PublishedEncoder

        return PublishedEncoder("bert", self, BertNetwork(self.path))


@attrs.frozen(kw_only=True)
class ClipTextConfig(PublishedConfig):
    """CLIP's half that reads: its projection."""

    def build(self) -> Encoder:
        """The encoder; weights are read when they are first needed."""
        from genmem_text.published import ClipTextNetwork, PublishedEncoder

        return PublishedEncoder("clip-text", self, ClipTextNetwork(self.path))


@hookimpl
def genmem_encoders() -> dict[str, type[EncoderConfig]]:
    """The encoders this plugin registers."""
    return {"ngrams": NgramsConfig, "bert": BertConfig, "clip-text": ClipTextConfig}
