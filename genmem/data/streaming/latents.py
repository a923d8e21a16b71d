"""From what is stored to x, the sample that everything after the stream sees."""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import LatentSpec
from genmem.draws import Draws


class Restoration:
    """x = stored · scale + shift, for one spec on one device."""

    def __init__(self, spec: LatentSpec, device: torch.device | str = "cpu") -> None:
        """Keep scale and shift on the device, so that no step has to wait for them."""
        self.spec = spec
        self._scale = torch.tensor(spec.scale, device=device).view(1, -1, 1, 1)
        self._shift = torch.tensor(spec.shift, device=device).view(1, -1, 1, 1)

    def __call__(self, stored: Tensor, draws: Draws | None = None) -> Tensor:
        """(B, C, H, W) fp32.

        Args:
            stored: (B, C, H, W), or (B, 2C, H, W) for moments: mean and deviation.
            draws: Draw the posterior with these; without, its mean is taken.
        """
        # In place from here on: a batch of latents is large, and fresh memory costs more than arithmetic.
        x = stored.to(torch.float32, copy=True)
        if self.spec.moments:
            mean, deviation = x.chunk(2, 1)
            x = mean.clone()
            if draws is not None:
                x += deviation * draws.normal("posterior", mean.shape[1:])
        return x.mul_(self._scale).add_(self._shift)
