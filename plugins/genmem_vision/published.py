"""An encoder with published weights. It learns nothing; what identifies it is the hash of its weights.

Shapes: B pictures, H W picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
import torch

_STATE = "sha256"


class Weights(Protocol):
    """What an encoder has to know of its network, before the weights are read."""

    @property
    def width(self) -> int:
        """D of the pooled feature."""

    @property
    def sha256(self) -> str:
        """Hash of the weights."""


class PublishedEncoder:
    """What all encoders here share: nothing to fit, a hash for a state, a place to compute."""

    def __init__(self, name: str, weights: Weights) -> None:
        """Nothing is read yet."""
        self._name, self._weights = name, weights
        self._device = torch.device("cpu")

    @property
    def width(self) -> int:
        """D."""
        return self._weights.width

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Nothing: the weights are published."""

    def state(self) -> dict[str, np.ndarray]:
        """The hash of the weights, 32 bytes; the weights themselves stay where they are."""
        return {_STATE: np.frombuffer(bytes.fromhex(self._weights.sha256), np.uint8)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See that a state is of these weights.

        Raises:
            ValueError: It is of others; both hashes are named.
        """
        found = state[_STATE].tobytes().hex()
        if found != self._weights.sha256:
            raise ValueError(
                f"{self._name}: the features were made by weights of sha256 {found}, "
                f"these are {self._weights.sha256}; name the file that was used, or prepare the set again"
            )

    def to(self, device: torch.device) -> Self:
        """Compute there; without this, on the CPU."""
        self._device = device
        return self
