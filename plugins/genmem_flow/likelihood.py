"""L_vlb: what one reverse step of DDPM costs in bits (Nichol and Dhariwal 2021, section 3.1).

Shapes: B batch, C H W sample, T steps; `step` broadcasts against samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from genmem_flow.ddpm import Ddpm

HALF_BIN = 1 / 255
"""Half the width of a grey level in [-1, 1]."""


def bound_bits(process: Ddpm, x: Tensor, x_t: Tensor, step: Tensor, noise: Tensor, place: Tensor) -> Tensor:
    """KL(q(x_{k-1} | x_k, x) ‖ p_θ(x_{k-1} | x_k)), or at step 0 -log p_θ(x | x_0), for each element.

    p_θ has the mean that `noise` implies, and log Σ = place · log β + (1 - place) · log β̃ (eq. 15).
    At step 0 it is cut into bins of one grey level, the two at the ends open.
    """
    beta, log_alpha_bar, *_ = process.tables(x.device)
    before = torch.cat([log_alpha_bar.new_zeros(1), log_alpha_bar[:-1]])
    alpha_bar_noise, before_noise = -torch.expm1(log_alpha_bar), -torch.expm1(before)
    posterior = beta * before_noise / alpha_bar_noise
    posterior[0] = posterior[1]

    def at(table: Tensor) -> Tensor:
        return table[step].to(x.dtype)

    guess = (x_t - at(alpha_bar_noise.sqrt()) * noise) / at((0.5 * log_alpha_bar).exp())
    of_x, of_x_t = (
        at((0.5 * before).exp() * beta / alpha_bar_noise),
        at((1 - beta).sqrt() * before_noise / alpha_bar_noise),
    )
    mean = of_x * guess + of_x_t * x_t
    log_variance = place * at(beta.log()) + (1 - place) * at(posterior.log())
    divergence = gaussian_divergence(of_x * x + of_x_t * x_t, at(posterior.log()), mean, log_variance)
    surprise = -binned_log_likelihood(x, mean, 0.5 * log_variance)
    return torch.where(step == 0, surprise, divergence) / math.log(2.0)


def gaussian_divergence(mean: Tensor, log_variance: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(mean_2, variance_2)) in nats."""
    ratio = log_variance - log_variance_2
    distance = (mean - mean_2).square() * (-log_variance_2).exp()
    return 0.5 * (ratio.exp() - 1 - ratio + distance)


def binned_log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """log of N(mean, deviation²)'s mass in the bin of x, of width 2/255; beyond ±1 for the end bins."""
    inverse = (-log_deviation).exp()
    upper = torch.where(x > 0.999, torch.inf, (x - mean + HALF_BIN) * inverse)
    lower = torch.where(x < -0.999, -torch.inf, (x - mean - HALF_BIN) * inverse)
    # Both tails are exact on the side where Φ is small; a bin is mirrored to that side.
    flip = lower > 0
    low, high = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    mass: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return mass.clamp_min(1e-12).log()
