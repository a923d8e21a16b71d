"""From what is stored to x, the sample that everything after the stream sees."""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import LatentSpec
from genmem.draws import Draws


def restore_latent(stored: Tensor, spec: LatentSpec, draws: Draws | None = None) -> Tensor:
    """x = stored · scale + shift, (B, C, H, W) fp32.

    Args:
        stored: (B, C, H, W), or (B, 2C, H, W) for moments: mean and deviation.
        spec: The form it was stored in.
        draws: Draw the posterior with these; without, its mean is taken.
    """
    x = stored.float()
    if spec.moments:
        mean, deviation = x.chunk(2, 1)
        x = mean if draws is None else mean + deviation * draws.normal("posterior", tuple(mean.shape[1:]))
    scale = torch.tensor(spec.scale, device=x.device).view(1, -1, 1, 1)
    shift = torch.tensor(spec.shift, device=x.device).view(1, -1, 1, 1)
    return x * scale + shift
