"""Between rows and their stored form: coefficients in a low-rank bank, the rows themselves in a raw one.

Shapes: B rows, E width, R rank, W = R or E numbers stored for a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from genmem_bank.storage.card import Card
from genmem_bank.storage.files import Basis, read_basis


class Code(ABC):
    """An affine map from the stored form to rows, and back."""

    @abstractmethod
    def decode(self, stored_BW: Tensor) -> Tensor:
        """Rows (B, E), before any norm."""

    @abstractmethod
    def encode(self, unit_BE: Tensor) -> Tensor:
        """The stored form (B, W) of features of norm 1."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes it occupies."""

    def share(self, first_BW: Tensor, second_BW: Tensor, angle_B: Tensor) -> Tensor:
        """The share (B,) of the first in the mix that is so far from the second, in parts of their angle.

        With Ω between the rows and the part a, spherical interpolation is sin(aΩ)/sin Ω of one
        direction and sin((1-a)Ω)/sin Ω of the other. Divided by their sum, the weights of the rows
        themselves give the same direction and stay on the affine set where rows lie: eq. 11 with
        another share.
        """
        first_BE, second_BE = self.decode(first_BW), self.decode(second_BW)
        length_B, other_B = first_BE.norm(dim=1), second_BE.norm(dim=1)
        cosine_B = (first_BE * second_BE).sum(1) / (length_B * other_B)
        whole_B = cosine_B.clamp(-1, 1).acos()
        near_B = (angle_B * whole_B).sin() / length_B
        far_B = ((1 - angle_B) * whole_B).sin() / other_B
        # Rows of one direction have no angle to divide.
        return torch.where(whole_B.sin() > 1e-6, near_B / (near_B + far_B), angle_B)


class LowRank(Code):
    """row = c Bᵀ + μ (GMem, eq. 9), c = (f - μ) B / S (eq. 10)."""

    def __init__(self, basis: Basis, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """On the device, in this precision."""
        tensors = (torch.from_numpy(array).to(device, dtype) for array in basis)
        self._mean_E, self._basis_ER, self._singular_R = tensors

    def decode(self, stored_BW: Tensor) -> Tensor:
        """c Bᵀ + μ."""
        return stored_BW @ self._basis_ER.mT + self._mean_E

    def encode(self, unit_BE: Tensor) -> Tensor:
        """(f - μ) B / S."""
        return (unit_BE - self._mean_E) @ self._basis_ER / self._singular_R

    @property
    def nbytes(self) -> int:
        """μ, B and S."""
        return sum(tensor.nbytes for tensor in (self._mean_E, self._basis_ER, self._singular_R))


class Raw(Code):
    """Rows as they are."""

    def decode(self, stored_BW: Tensor) -> Tensor:
        """The rows."""
        return stored_BW

    def encode(self, unit_BE: Tensor) -> Tensor:
        """The features."""
        return unit_BE

    @property
    def nbytes(self) -> int:
        """Nothing."""
        return 0


def open_code(
    folder: Path, card: Card, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Code, Basis | None]:
    """The map of a bank, and the basis it is made of, if any.

    Raises:
        ValueError: A damaged basis.
    """
    if card.kind == "raw":
        return Raw(), None
    basis = read_basis(folder, card)
    return LowRank(basis, device, dtype), basis
