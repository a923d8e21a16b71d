"""Forms of the diffusion D(t): how much noise the reverse SDE adds (SiT's table; w = 2 D).

Any D ≥ 0 leaves the marginals as they are, so it may be chosen after training (GMem paper,
below eq. 5). Written in our time, t = 0 data: SiT's code has 1 - t where this has t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genmem.contracts import Coefficients

DiffusionForm = Callable[[Tensor, Coefficients, float], Tensor]
"""(t, path there, n) -> D, each shaped to broadcast against a sample."""


def hold_constant(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = n."""
    return torch.full_like(t, norm)


def follow_process(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = n V, V = σ σ' - σ² α'/α = g²/2: at n = 1 the reverse of the forward SDE (GMem paper, eqs. 3
    and 4). Infinite where α = 0."""
    return norm * path.sigma * (path.d_sigma - path.sigma * path.d_alpha / path.alpha)


def follow_sigma(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = n σ(t)."""
    return norm * path.sigma


def follow_time(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = n t."""
    return norm * t


def decrease(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = (1 - n cos πt)² / 4."""
    return 0.25 * (1 - norm * torch.cos(math.pi * t)).square()


def increase_and_decrease(t: Tensor, path: Coefficients, norm: float) -> Tensor:
    """D = n sin² πt."""
    return norm * torch.sin(math.pi * t).square()


DIFFUSIONS: Mapping[str, DiffusionForm] = {
    "constant": hold_constant,
    "sbdm": follow_process,
    "sigma": follow_sigma,
    "linear": follow_time,
    "decreasing": decrease,
    "increasing-decreasing": increase_and_decrease,
}
