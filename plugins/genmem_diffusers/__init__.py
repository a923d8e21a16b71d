"""Tokenizers of published autoencoders: SD-VAE, VA-VAE and DC-AE, by diffusers' networks."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Record, Tokenizer, TokenizerConfig


def _at_least_one(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


def _usable(instance: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and (value == 0 or not math.isfinite(value)):
        raise ValueError(f"{attribute.name} must be finite and not 0, got {value}")


@attrs.frozen(kw_only=True)
class AutoencoderConfig(TokenizerConfig):
    """What the autoencoders here share. Where weights lie is no property of the latents; their hash is."""

    path: str = attrs.field(default="", eq=False)
    """Folder with config.json and the weights as safetensors, or that file; empty: the hub is asked."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's arithmetic; latents are given in fp32, and stored as `data.precision` says."""

    batch: int = attrs.field(default=16, eq=False, validator=_at_least_one)
    """Pictures that go through the network at once."""

    def record(self, shape: tuple[int, int, int]) -> Record:
        """Mean and deviation of every channel, or the latent alone."""
        channels, *sides = shape
        return Record((2 * channels if getattr(self, "moments", False) else channels, *sides), "float32")


@attrs.frozen(kw_only=True)
class SdVaeConfig(AutoencoderConfig):
    """Stable Diffusion's autoencoder, or another one of diffusers' AutoencoderKL."""

    hub: str = attrs.field(default="", eq=False)
    """Its name on the Hugging Face hub, used where `path` is empty; by default that of `variant`."""

    variant: Literal["ema", "mse"] = attrs.field(default="ema", eq=False)
    """Which of stabilityai/sd-vae-ft-ema and -mse, where neither `path` nor `hub` is given."""

    moments: bool = True
    """Store mean and deviation, so that every epoch draws anew; if not, the mean alone."""

    scale: float | None = attrs.field(default=None, validator=_usable)
    """x = z · scale + shift; by default what config.json says, and 0.18215 where it says nothing."""

    shift: float | None = None
    """By default what config.json says, and 0 where it says nothing."""

    def __attrs_post_init__(self) -> None:
        """Refuse two places for one network."""
        if self.path and self.hub:
            raise ValueError(f'give path or hub, not both: "{self.path}" and "{self.hub}"')

    def build(self) -> Tokenizer:
        """The tokenizer; weights are read when they are first needed."""
        from genmem_diffusers.published import open_sd_vae

        return open_sd_vae(self)


@attrs.frozen(kw_only=True)
class VaVaeConfig(AutoencoderConfig):
    """LightningDiT's VA-VAE: the latent diffusion autoencoder with attention at its coarsest level."""

    path: str = attrs.field(eq=False)
    """Its safetensors file, under the names of the latent diffusion code or of diffusers."""

    latents_stats: str | None = attrs.field(eq=False)
    """File with `mean` and `std` of every channel, JSON or safetensors; "none": latents stay as they are."""

    multiplier: float = attrs.field(default=1.0, validator=_usable)
    """x = (z - mean) / std · multiplier."""

    moments: bool = True
    """Store mean and deviation, so that every epoch draws anew; if not, the mean alone."""

    latent_channels: int = attrs.field(default=32, validator=_at_least_one)
    """d of f16d32."""

    channels: int = attrs.field(default=128, validator=_at_least_one)
    """Channels at the finest level."""

    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Channels of each level over `channels`; every level after the first halves the picture."""

    def __attrs_post_init__(self) -> None:
        """Refuse no file: it is not on the hub as safetensors."""
        if not self.path:
            raise ValueError("path must name the file of weights")

    def build(self) -> Tokenizer:
        """The tokenizer; weights are read when they are first needed."""
        from genmem_diffusers.published import open_va_vae

        return open_va_vae(self)


@attrs.frozen(kw_only=True)
class DcAeConfig(AutoencoderConfig):
    """The deep compression autoencoder (DC-AE): deterministic, 32 or 64 pixels to a latent's side."""

    hub: str = attrs.field(default="mit-han-lab/dc-ae-f32c32-in-1.0-diffusers", eq=False)
    """Its name on the Hugging Face hub, used where `path` is empty."""

    scale: float | None = attrs.field(default=None, validator=_usable)
    """x = z · scale; by default what config.json says, and 1 where it says nothing."""

    def build(self) -> Tokenizer:
        """The tokenizer; weights are read when they are first needed."""
        from genmem_diffusers.published import open_dc_ae

        return open_dc_ae(self)


@hookimpl
def genmem_tokenizers() -> dict[str, type[TokenizerConfig]]:
    """The tokenizers this plugin registers."""
    return {"sd-vae": SdVaeConfig, "va-vae": VaVaeConfig, "dc-ae": DcAeConfig}
