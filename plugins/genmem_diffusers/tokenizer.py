"""An autoencoder as a tokenizer.

Shapes: B pictures, H W picture; C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import LatentSpec
from genmem.devices import autocast
from genmem_diffusers import AutoencoderConfig
from genmem_diffusers.autoencoder import Autoencoder
from genmem_diffusers.normalization import Normalization

_HALF = 127.5


class AutoencoderTokenizer:
    """Latents of an autoencoder: of its posterior, or of its encoder where that is deterministic."""

    def __init__(
        self,
        name: str,
        config: AutoencoderConfig,
        autoencoder: Autoencoder,
        normalize: Callable[[Mapping[str, Any]], Normalization],
        *,
        moments: bool,
    ) -> None:
        """Nothing is read yet.

        Args:
            name: As registered.
            config: Precision and batch.
            autoencoder: The network.
            normalize: From its settings to the scale and the shift of x.
            moments: Store mean and deviation; if not, the mean, or the latent.
        """
        self._name, self._config, self._autoencoder = name, config, autoencoder
        self._normalize, self._moments = normalize, moments
        self._device: torch.device | None = None

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        """The form stored for pictures of (H, W, C), with the hash of the weights.

        Raises:
            ValueError: Sides that are not whole places of a latent, or other colours.
        """
        shape, (scale, shift) = self._shape(*picture_shape), self._normalization
        weights = self._autoencoder.sha256
        return LatentSpec(self._name, shape, "float32", scale, shift, moments=self._moments, weights=weights)

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        """(B, C, h, w), or mean and deviation (B, 2C, h, w), in float32.

        Raises:
            ValueError: No pictures it takes.
        """
        if pictures_BHWC.dtype != np.uint8 or pictures_BHWC.ndim != 4:
            raise ValueError(
                f"{self._name}: expected uint8 pictures (B, H, W, C), "
                f"got {pictures_BHWC.dtype} {pictures_BHWC.shape}"
            )
        _, height, width, colours = pictures_BHWC.shape
        channels = self._shape(height, width, colours)[0]
        pictures = torch.from_numpy(np.ascontiguousarray(pictures_BHWC))
        network = self._network_on(self._device or pictures.device)
        parts = [self._encode_some(network, part) for part in self._batches(pictures)]
        stored: np.ndarray = torch.cat(parts)[:, : (1 + self._moments) * channels].contiguous().numpy()
        return stored

    def decode(self, x: Tensor) -> np.ndarray:
        """uint8 (B, H, W, C): clamped to [-1, 1] and rounded to the nearest grey."""
        network = self._network_on(self._device or x.device)
        return np.concatenate([self._decode_some(network, part) for part in self._batches(x)])

    def to(self, device: torch.device) -> AutoencoderTokenizer:
        """Compute there; without this, on the CPU, and where samples lie when decoding."""
        self._device = device
        return self

    def _shape(self, height: int, width: int, colours: int) -> tuple[int, int, int]:
        factor, settings = self._autoencoder.factor, self._autoencoder.settings
        if colours != settings["in_channels"]:
            raise ValueError(
                f"{self._name}: pictures of {colours} channels, the network takes {settings['in_channels']}; "
                "set channels in [data.source], or take another tokenizer"
            )
        if height % factor or width % factor:
            raise ValueError(
                f"{self._name}: pictures of {height} x {width}; both sides must be multiples of {factor}, "
                "the pixels that a latent stands for"
            )
        return int(settings["latent_channels"]), height // factor, width // factor

    @cached_property
    def _normalization(self) -> Normalization:
        return self._normalize(self._autoencoder.settings)

    def _network_on(self, device: torch.device) -> Any:
        return self._autoencoder.network.to(device)

    def _batches(self, rows: Tensor) -> tuple[Tensor, ...]:
        return torch.split(rows, self._config.batch)

    @torch.no_grad()
    def _encode_some(self, network: Any, pictures_BHWC: Tensor) -> Tensor:
        pictures = pictures_BHWC.to(network.device).permute(0, 3, 1, 2).float() / _HALF - 1
        with autocast(network.device, self._config.precision):
            encoded = self._autoencoder.kind.encode(network, pictures)
        return encoded.float().cpu()

    @torch.no_grad()
    def _decode_some(self, network: Any, x: Tensor) -> np.ndarray:
        z = self._normalization.undo(x.to(network.device).float())
        with autocast(network.device, self._config.precision):
            decoded: Tensor = network.decode(z).sample
        grey = (decoded.float().clamp(-1, 1) + 1) * _HALF
        pictures: np.ndarray = grey.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pictures
