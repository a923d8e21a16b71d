"""Sources of pictures, and of latents that people already have."""

from __future__ import annotations

from genmem import hookimpl
from genmem.contracts import EncoderConfig, SourceConfig
from genmem_sources.configs import (
    CifarConfig,
    ImageArchiveConfig,
    ImageFolderConfig,
    LatentSafetensorsConfig,
    RepaLatentsConfig,
    StoredFeatureConfig,
    WebShardsConfig,
)


@hookimpl
def genmem_sources() -> dict[str, type[SourceConfig]]:
    """The sources this plugin registers."""
    return {
        "image-folder": ImageFolderConfig,
        "image-archive": ImageArchiveConfig,
        "cifar10": CifarConfig,
        "webdataset": WebShardsConfig,
        "repa-latents": RepaLatentsConfig,
        "latent-safetensors": LatentSafetensorsConfig,
    }


@hookimpl
def genmem_encoders() -> dict[str, type[EncoderConfig]]:
    """Features that came with the latents stand where an encoder would."""
    return {"stored": StoredFeatureConfig}
