"""A vision network of some library as an encoder.

Shapes: B pictures, H W picture; L tokens, D width.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Encoded
from genmem.devices import autocast
from genmem_vision import VisionConfig
from genmem_vision.pictures import Preparation, check_pictures
from genmem_vision.published import PublishedEncoder, Weights


class Network(Weights, Protocol):
    """A network of some library with published weights."""

    @property
    def preparation(self) -> Preparation:
        """What it is to be shown."""

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, D) and tokens (B, L, D') of prepared pictures, where they lie."""


class VisionEncoder(PublishedEncoder):
    """Features of a network whose weights never change."""

    def __init__(self, name: str, config: VisionConfig, network: Network) -> None:
        """Nothing is read yet."""
        super().__init__(name, network)
        self._config, self._network = config, network

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32; and (B, L, D) tokens where they are asked for."""
        check_pictures(self._name, pictures_BHWC)
        size = self._config.batch
        parts = [self._encode_some(pictures_BHWC[i : i + size]) for i in range(0, len(pictures_BHWC), size)]
        tokens_BLD = np.concatenate([tokens for _, tokens in parts]) if self._config.tokens else None
        return Encoded(np.concatenate([pooled for pooled, _ in parts]), tokens_BLD)

    @torch.no_grad()
    def _encode_some(self, pictures_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self._network.preparation(pictures_BHWC, self._device)
        with autocast(self._device, self._config.precision):
            pooled_BD, tokens_BLD = self._network.features(x)
        return pooled_BD.float().cpu().numpy(), tokens_BLD.float().cpu().numpy()
