"""Settings of the sources. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from genmem.contracts import Encoder, EncoderConfig, Source, SourceConfig, StoredSource
from genmem_sources.recognition import kind_of


def _last_name(path: str) -> str:
    return Path(path).name


def _positive(instance: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


def _held(instance: object, attribute: attrs.Attribute[Any], value: int | float) -> None:
    if value < 0 or (isinstance(value, float) and value >= 1):
        raise ValueError(f"{attribute.name} must be a number of pictures, or a share below 1.0; got {value}")


def _numbers(instance: object, attribute: attrs.Attribute[Any], value: tuple[float, ...]) -> None:
    if attribute.name == "scale" and not all(value):
        raise ValueError("scale must not hold 0")


@attrs.frozen(kw_only=True)
class PathConfig(SourceConfig):
    """What every source here has: a path."""

    kind: ClassVar[str] = ""

    path: str = attrs.field(eq=_last_name)
    """The file or folder, relative to the current folder. Moving it makes no other source of it."""

    licence: str = ""
    """Of the pictures, recorded with the set."""

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Whether `path` looks like this kind."""
        return bool(cls.kind) and kind_of(path) == cls.kind


@attrs.frozen(kw_only=True)
class HeldOutConfig(PathConfig):
    """A source that may have no test split of its own."""

    held_out: int | float = attrs.field(default=0, validator=_held)
    """Pictures held out where the source has no test split: a number, or a share such as 0.1."""


@attrs.frozen(kw_only=True)
class TreeConfig(HeldOutConfig):
    """Pictures in folders, one folder a class; or all in one folder, without classes."""

    test: str = attrs.field(default="", eq=_last_name)
    """Another folder or archive, whose pictures are the test split."""

    resolution: int | None = attrs.field(default=None, validator=_positive)
    """Side of ADM's centre crop; pictures are taken as they are if absent, and must be alike."""

    channels: Literal[1, 3] = 3
    """3: RGB; 1: grey."""

    def build(self) -> Source:
        """The pictures, listed."""
        from genmem_sources.picture_tree import PictureTree

        return PictureTree(self)


@attrs.frozen(kw_only=True)
class ImageFolderConfig(TreeConfig):
    """A folder of class folders with pictures in them; train/ and test/ above those, if there."""

    kind: ClassVar[str] = "image-folder"


@attrs.frozen(kw_only=True)
class ImageArchiveConfig(TreeConfig):
    """A tar (plain, xz, gzip, bzip2) or a zip of such a folder, read without extracting it."""

    kind: ClassVar[str] = "image-archive"


@attrs.frozen(kw_only=True)
class CifarConfig(PathConfig):
    """CIFAR-10's official binary files: 50,000 pictures of 32 x 32 and 10,000 held out."""

    kind: ClassVar[str] = "cifar10"

    def build(self) -> Source:
        """The pictures, read from the folder or from the archive as it is published."""
        from genmem_sources.cifar10 import Cifar

        return Cifar(self)


@attrs.frozen(kw_only=True)
class WebShardsConfig(HeldOutConfig):
    """A folder of WebDataset tars with pictures, as img2dataset writes them."""

    kind: ClassVar[str] = "webdataset"

    label: str = "cls"
    """Where the class is: the member "cls", a key of the member "json" as "json:KEY", or "none"."""

    resolution: int | None = attrs.field(default=None, validator=_positive)
    """Side of ADM's centre crop; pictures are taken as they are if absent, and must be alike."""

    channels: Literal[1, 3] = 3
    """3: RGB; 1: grey."""

    def __attrs_post_init__(self) -> None:
        """Refuse another place for labels."""
        if self.label not in ("cls", "none") and not self.label.startswith("json:"):
            raise ValueError(f'label must be "cls", "json:KEY" or "none", got "{self.label}"')

    def build(self) -> Source:
        """The pictures, listed."""
        from genmem_sources.web_shards import WebShards

        return WebShards(self)


@attrs.frozen(kw_only=True)
class RepaLatentsConfig(HeldOutConfig):
    """REPA's folder: images/, and in vae-sd/ mean and deviation of the SD-VAE's posterior."""

    kind: ClassVar[str] = "repa-latents"

    scale: tuple[float, ...] = attrs.field(default=(0.18215,), validator=_numbers)
    """x = latent * scale + shift: one number, or one a channel."""

    shift: tuple[float, ...] = (0.0,)
    """See scale."""

    def build(self) -> StoredSource:
        """The latents, listed."""
        from genmem_sources.repa import RepaLatents

        return RepaLatents(self)


@attrs.frozen(kw_only=True)
class LatentSafetensorsConfig(HeldOutConfig):
    """Safetensors shards as LightningDiT and GMem write them: latents, latents_flip, labels."""

    kind: ClassVar[str] = "latent-safetensors"

    scale: tuple[float, ...] = attrs.field(default=(), validator=_numbers)
    """x = latent * scale + shift: one number, or one a channel; the tokenizer's if absent. For
    LightningDiT 1 / std of its latents_stats (or 0.18215 with the SD-VAE)."""

    shift: tuple[float, ...] = ()
    """See scale. For LightningDiT -mean / std."""

    downsample: int = attrs.field(default=16, validator=_positive)
    """Pixels a latent stands for, along a side: 16 for VA-VAE f16, 8 for the SD-VAE."""

    class_names: tuple[str, ...] = ()
    """Names in label order; the numbers if absent."""

    def __attrs_post_init__(self) -> None:
        """Scale and shift are known together."""
        if bool(self.scale) != bool(self.shift):
            raise ValueError("scale and shift go together; give both, or neither")

    def build(self) -> StoredSource:
        """The latents, listed."""
        from genmem_sources.latent_shards import LatentShards

        return LatentShards(self)


@attrs.frozen(kw_only=True)
class StoredFeatureConfig(EncoderConfig):
    """A feature that came with the latents, stored under a name of its own."""

    learns: ClassVar[bool] = False

    pooled: str = "cls_tokens"
    """The tensor with one vector a picture."""

    tokens: str = ""
    """The tensor with one vector a place, "representations" say; none if empty."""

    @property
    def given(self) -> dict[str, str]:
        """What of the source's is stored under which suffix."""
        return {"": self.pooled} | ({".tokens": self.tokens} if self.tokens else {})

    def build(self) -> Encoder:
        """Refuse: there are features, and no encoder to make more of them.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a stored feature came with its latents; its encoder is not here to encode pictures")
