"""What the repulsion can reach: closed forms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genmem_repulsor import RepulsorConfig


def floor_of(config: RepulsorConfig, width: int) -> float:
    """The least value of either term: even spread on the sphere, or the anchor's -log B_ref."""
    anchor = config.resolved_anchor
    return uniform_floor(width, config.temperature) if anchor is None else -math.log(anchor)


def uniform_floor(width: int, temperature: float) -> float:
    """log E exp(q·k/τ) for k uniform on the unit sphere in `width` dimensions.

    The expectation is 0F1(; width/2; 1/(4τ²)) = Σ_n z^n / ((width/2)_n n!), all terms positive.
    """
    half, z = width / 2, 1 / (4 * temperature**2)
    log_term, log_sum = 0.0, 0.0
    n = 0
    # Terms grow while z > (half + n)(n + 1), then fall faster than geometrically.
    while log_term > log_sum - 40 or z > (half + n) * (n + 1):
        log_term += math.log(z) - math.log(half + n) - math.log(n + 1)
        log_sum = max(log_sum, log_term) + math.log1p(math.exp(-abs(log_sum - log_term)))
        n += 1
    return log_sum
