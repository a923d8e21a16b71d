"""A vision network as an encoder. It learns nothing; what identifies it is the hash of its weights.

Shapes: B pictures, H W picture; L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Encoded
from genmem.devices import autocast
from genmem_vision import VisionConfig
from genmem_vision.pictures import Preparation, check_pictures

_STATE = "sha256"


class Network(Protocol):
    """A network of some library with published weights."""

    @property
    def width(self) -> int:
        """D of the pooled feature; the weights are not read for it."""

    @property
    def sha256(self) -> str:
        """Hash of the weights."""

    @property
    def preparation(self) -> Preparation:
        """What it is to be shown."""

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, D) and tokens (B, L, D') of prepared pictures, where they lie."""


class VisionEncoder:
    """Features of a network whose weights never change."""

    def __init__(self, name: str, config: VisionConfig, network: Network) -> None:
        """Nothing is read yet."""
        self._name, self._config, self._network = name, config, network
        self._device = torch.device("cpu")

    @property
    def width(self) -> int:
        """D."""
        return self._network.width

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32; and (B, L, D) tokens where they are asked for."""
        check_pictures(self._name, pictures_BHWC)
        size = self._config.batch
        parts = [self._encode_some(pictures_BHWC[i : i + size]) for i in range(0, len(pictures_BHWC), size)]
        tokens_BLD = np.concatenate([tokens for _, tokens in parts]) if self._config.tokens else None
        return Encoded(np.concatenate([pooled for pooled, _ in parts]), tokens_BLD)

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Nothing: the weights are published."""

    def state(self) -> dict[str, np.ndarray]:
        """The hash of the weights, 32 bytes; the weights themselves stay where they are."""
        return {_STATE: np.frombuffer(bytes.fromhex(self._network.sha256), np.uint8)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See that a state is of these weights.

        Raises:
            ValueError: It is of others; both hashes are named.
        """
        found = state[_STATE].tobytes().hex()
        if found != self._network.sha256:
            raise ValueError(
                f"{self._name}: the features were made by weights of sha256 {found}, "
                f"these are {self._network.sha256}; name the file that was used, or prepare the set again"
            )

    def to(self, device: torch.device) -> VisionEncoder:
        """Compute there; without this, on the CPU."""
        self._device = device
        return self

    @torch.no_grad()
    def _encode_some(self, pictures_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self._network.preparation(pictures_BHWC, self._device)
        with autocast(self._device, self._config.precision):
            pooled_BD, tokens_BLD = self._network.features(x)
        return pooled_BD.float().cpu().numpy(), tokens_BLD.float().cpu().numpy()
