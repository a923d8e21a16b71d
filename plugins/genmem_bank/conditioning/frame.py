"""Orthonormal coordinates of the space that a bank's rows lie in.

Rows c Bᵀ + μ with B = V Σ^½ lie in the span of V's R columns and of μ. In coordinates of an
orthonormal basis of it, inner products and distances of rows are those of the rows themselves,
with R + 1 numbers a row.
Shapes: N rows, B queries, R rank, E width, F = R + 1 coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem_bank.storage.files import Basis

NONE = 1e-6
"""Length below which the mean, of unit vectors, has no part outside V that means anything."""


class Frame(NamedTuple):
    """The basis, and where rows lie in it."""

    axes_EF: Tensor
    """[V, u]: u is the direction of μ's part outside V; zero if it has none."""

    stretch_R: Tensor
    """Σ^½."""

    mean_F: Tensor
    """The coordinates of μ."""

    def project(self, q_BE: Tensor) -> Tensor:
        """Coordinates (B, F) of what lies in the span, fp32 under any autocast."""
        with torch.autocast(q_BE.device.type, enabled=False):
            return q_BE.float() @ self.axes_EF

    def restore(self, inside_BF: Tensor) -> Tensor:
        """The vectors (B, E) of these coordinates."""
        return inside_BF @ self.axes_EF.mT

    def place(self, coefficient_NR: Tensor) -> Tensor:
        """Coordinates (N, F) of rows, as they are before any norm."""
        return F.pad(coefficient_NR * self.stretch_R, (0, 1)) + self.mean_F


def frame_of(basis: Basis, device: torch.device) -> Frame:
    """The frame of a bank's basis, worked out in float64."""
    stretch_R = np.sqrt(basis.singular_R)
    # A direction of no variance has a zero column in B, and all its coefficients are zero.
    axes_ER = basis.basis_ER / np.maximum(stretch_R, np.finfo(np.float64).tiny)
    inside_R = basis.mean_E @ axes_ER
    outside_E = basis.mean_E - axes_ER @ inside_R
    length = float(np.linalg.norm(outside_E))
    axis_E = outside_E / length if length > NONE else np.zeros_like(outside_E)
    axes_EF = np.concatenate([axes_ER, axis_E[:, None]], 1)
    mean_F = np.append(inside_R, length if length > NONE else 0.0)
    return Frame(*(torch.from_numpy(a).to(device, torch.float32) for a in (axes_EF, stretch_R, mean_F)))
