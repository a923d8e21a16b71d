"""A fixed random convolutional network, as a feature space that no training has touched.

Its features tell real digits from a Gaussian with their mean and covariance, which pixels do not.
Shapes: B pictures, C channels, H W picture, L places of the last map, G cells of a side, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from genmem.contracts import Encoded
from genmem.draws import Draws
from genmem_encoders import RandomConvConfig
from genmem_encoders.pictures import check_pictures

_PIXELS_AT_ONCE = 1 << 18
_LARGE = 64


class RandomConvEncoder:
    """3 × 3 convolutions with ReLU, halved by averaging; the mean over a coarse grid at the end.

    Pictures of 64 × 64 and more are halved until a side is below 64.
    """

    def __init__(self, config: RandomConvConfig) -> None:
        """A network whose weights follow from the seed and the pictures' channels."""
        self._config = config
        self._weights: list[Tensor] | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._config.width

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        """(B, D) float32; and (B, L, D / G²) tokens where they are asked for."""
        check_pictures(pictures_BHWC)
        weights = self._weights_for(pictures_BHWC.shape[3])
        at_once = max(1, _PIXELS_AT_ONCE // math.prod(pictures_BHWC.shape[1:3]))
        maps = [
            self._encode_some(pictures_BHWC[start : start + at_once], weights)
            for start in range(0, len(pictures_BHWC), at_once)
        ]
        tokens_BLD = np.concatenate([tokens for _, tokens in maps]) if self._config.tokens else None
        return Encoded(np.concatenate([pooled for pooled, _ in maps]), tokens_BLD)

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        """Take note of the number of channels; nothing is learned."""
        check_pictures(pictures_BHWC[:1])
        self._weights = self._draw(pictures_BHWC.shape[3])

    def state(self) -> dict[str, np.ndarray]:
        """The weights, (out, in, 3, 3) for each layer."""
        if self._weights is None:
            raise ValueError("random-conv: there are no weights before it has seen a picture: fit it first")
        return {f"layer{i}": weight.numpy() for i, weight in enumerate(self._weights)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up weights.

        Raises:
            ValueError: Another number of layers, or another width.
        """
        weights = [torch.from_numpy(state[name].copy()) for name in sorted(state)]
        if [len(weight) for weight in weights] != self._channels():
            raise ValueError(
                f"random-conv: the state has layers of {[len(w) for w in weights]} channels, "
                f"expected {self._channels()}"
            )
        self._weights = weights

    def _channels(self) -> list[int]:
        config = self._config
        return [config.hidden] * (config.layers - 1) + [config.width // config.grid**2]

    def _weights_for(self, channels: int) -> list[Tensor]:
        if self._weights is None:
            self._weights = self._draw(channels)
        if self._weights[0].shape[1] != channels:
            found = self._weights[0].shape[1]
            raise ValueError(f"random-conv: weights for {found} channels, pictures of {channels}")
        return self._weights

    def _draw(self, channels: int) -> list[Tensor]:
        """He's variance, 2 / fan-in; uniform, because those draws are the same bits on every machine."""
        weights, fan_in = [], channels
        for layer, fan_out in enumerate(self._channels()):
            draws = Draws(self._config.seed, torch.arange(fan_out))
            unit = draws.uniform(f"random-conv/{layer}", (fan_in, 3, 3)) * 2 - 1
            weights.append(unit * math.sqrt(6 / (9 * fan_in)))
            fan_in = fan_out
        return weights

    @torch.no_grad()
    def _encode_some(self, pictures_BHWC: np.ndarray, weights: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        grid = self._config.grid
        x = torch.from_numpy(np.ascontiguousarray(pictures_BHWC)).permute(0, 3, 1, 2).float() / 127.5 - 1
        while min(x.shape[2:]) >= _LARGE:
            x = functional.avg_pool2d(x, 2)
        for layer, weight in enumerate(weights):
            x = functional.conv2d(x, weight, padding=1).relu()
            # Odd layers halve the picture, down to two places for each cell of the grid.
            if layer % 2 and min(x.shape[2:]) >= 4 * grid:
                x = functional.avg_pool2d(x, 2)
        pooled_BD = functional.adaptive_avg_pool2d(x, grid).flatten(1)
        return pooled_BD.numpy(), x.flatten(2).transpose(1, 2).contiguous().numpy()
