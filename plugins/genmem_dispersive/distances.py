"""Distances between hidden states, by one matrix product.

Shapes: G groups, N samples in a group, M numbers in a hidden state.
"""

from __future__ import annotations

import torch
from torch import Tensor


def square_distances(z_GNM: Tensor) -> Tensor:
    """‖z_i - z_j‖² / M within each group, (G, N, N), with a diagonal of exact zeros.

    By one matrix product. The group's mean is taken out first: distances do not change, and
    what the samples share no longer cancels (relative error 2e-7 in fp32 where it was 7e-3).
    """
    centred_GNM = z_GNM - z_GNM.detach().mean(1, keepdim=True)
    gram_GNN = centred_GNM @ centred_GNM.transpose(1, 2) / z_GNM.shape[-1]
    square_GN = gram_GNN.diagonal(dim1=1, dim2=2)
    return (square_GN[:, :, None] + square_GN[:, None, :] - 2 * gram_GNN).clamp(min=0)


def to_sphere(z_GNM: Tensor) -> Tensor:
    """z / RMS(z): on the sphere of radius √M, where ‖z_i - z_j‖² / M = 2 - 2 cos."""
    square_GN1 = z_GNM.square().mean(-1, keepdim=True)
    return z_GNM / square_GN1.clamp(min=torch.finfo(z_GNM.dtype).tiny).sqrt()


def standardise(z_GNM: Tensor) -> Tensor:
    """Mean 0 and variance 1 (of N - 1) in every dimension of every group.

    A dimension with a deviation below 1e-3 counts as constant: it is not blown up.
    """
    centred_GNM = z_GNM - z_GNM.mean(1, keepdim=True)
    variance_G1M = centred_GNM.square().sum(1, keepdim=True) / (z_GNM.shape[1] - 1)
    return centred_GNM / variance_G1M.clamp(min=1e-6).sqrt()
