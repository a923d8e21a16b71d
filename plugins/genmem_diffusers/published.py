"""From settings to tokenizers: where each network's settings, weights and scale come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genmem.weights import PublishedModel
from genmem_diffusers import DcAeConfig, SdVaeConfig, VaVaeConfig
from genmem_diffusers.autoencoder import DC, KL, NAMES, Autoencoder
from genmem_diffusers.normalization import read_settings, read_statistics
from genmem_diffusers.tokenizer import AutoencoderTokenizer


def open_sd_vae(config: SdVaeConfig) -> AutoencoderTokenizer:
    """The tokenizer `sd-vae`."""
    model = PublishedModel(config.path, config.hub or f"stabilityai/sd-vae-ft-{config.variant}", NAMES)
    return AutoencoderTokenizer(
        "sd-vae",
        config,
        Autoencoder(KL, model),
        lambda settings: read_settings(settings, KL.scale, config.scale, config.shift),
        moments=config.moments,
    )


def open_va_vae(config: VaVaeConfig) -> AutoencoderTokenizer:
    """The tokenizer `va-vae`."""
    statistics = None if config.latents_stats is None else Path(config.latents_stats)
    return AutoencoderTokenizer(
        "va-vae",
        config,
        Autoencoder(KL, PublishedModel(config.path, "", NAMES), _describe_va_vae(config)),
        lambda settings: read_statistics(statistics, config.latent_channels, config.multiplier),
        moments=config.moments,
    )


def open_dc_ae(config: DcAeConfig) -> AutoencoderTokenizer:
    """The tokenizer `dc-ae`."""
    return AutoencoderTokenizer(
        "dc-ae",
        config,
        Autoencoder(DC, PublishedModel(config.path, config.hub, NAMES)),
        lambda settings: read_settings(settings, DC.scale, config.scale, None),
        moments=False,
    )


def _describe_va_vae(config: VaVaeConfig) -> dict[str, Any]:
    """VA-VAE as settings of AutoencoderKL: two residual blocks a level, attention at the coarsest."""
    plain = len(config.multipliers) - 1
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": config.latent_channels,
        "block_out_channels": tuple(config.channels * multiplier for multiplier in config.multipliers),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,
    }
