"""The Inception network that FID, sFID and the Inception Score are defined by.

Shapes: B pictures, H W picture; D = 2048 pooled, C = 1008 classes, 17 × 17 places of 7 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Encoded
from genmem.devices import autocast
from genmem_vision import InceptionConfig
from genmem_vision.inception_network import CLASSES, PLACES, WIDTH, Inception, build_inception
from genmem_vision.inception_weights import InceptionWeights
from genmem_vision.pictures import check_pictures
from genmem_vision.published import PublishedEncoder

_OUTPUTS: Mapping[str, int] = {"pooled": WIDTH, "logits": CLASSES, "spatial": PLACES}


class InceptionEncoder(PublishedEncoder):
    """Pooled features, logits without their bias, and the map that sFID looks at."""

    def __init__(self, config: InceptionConfig) -> None:
        """Nothing is read yet."""
        self._config, self._file = config, InceptionWeights(config)
        super().__init__("inception", self._file)

    @property
    def outputs(self) -> Mapping[str, int]:
        """{name: width}."""
        return _OUTPUTS

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, 2048) float32."""
        return Encoded(self.encode_outputs(pictures_BHWC, ("pooled",))["pooled"])

    def encode_outputs(self, pictures_BHWC: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """(B, width) float32 of each, in one pass.

        Raises:
            ValueError: No uint8 pictures (B, H, W, 1 or 3).
        """
        check_pictures("inception", pictures_BHWC)
        size = self._config.batch
        parts = [self._look(pictures_BHWC[i : i + size]) for i in range(0, len(pictures_BHWC), size)]
        return {name: np.concatenate([part[name].float().cpu().numpy() for part in parts]) for name in names}

    @cached_property
    def _network(self) -> Inception:
        return build_inception(self._file.tensors, self._file.path)

    @torch.no_grad()
    def _look(self, pictures_BHWC: np.ndarray) -> dict[str, Tensor]:
        x = torch.from_numpy(np.ascontiguousarray(pictures_BHWC)).to(self._device).permute(0, 3, 1, 2)
        with autocast(self._device, self._config.precision):
            seen: dict[str, Tensor] = self._network.to(self._device)(x.expand(-1, 3, -1, -1))
            return seen
