"""Rows into their place in a segment's file, and what is lost by storing them.

Shapes: N rows of a part, E width, R rank, W = R or E numbers stored for a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genmem_bank.storage.files import Basis
from genmem_bank.storage.tensors import Dtype, narrow, widen

LITTLE = 1e-3
"""Share of a part's energy below which its error is not told by the difference of two sums."""


def coefficients(rows_NE: np.ndarray, basis: Basis) -> np.ndarray:
    """c = (f - μ) B / S (GMem, eq. 10); over the bank's own rows that is C = U Σ^½."""
    return np.asarray((rows_NE - basis.mean_E) @ (basis.basis_ER / basis.singular_R))


class Projection:
    """The same in fp32, for many rows, and back. For a raw bank rows are stored as they are."""

    def __init__(self, basis: Basis | None) -> None:
        """On this basis."""
        self._parts = None
        if basis is not None:
            arrays = (basis.mean_E, basis.basis_ER / basis.singular_R, basis.basis_ER.T, basis.singular_R)
            self._parts = tuple(torch.from_numpy(array).float().contiguous() for array in arrays)

    def store(self, row_NE: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, E) without their mean, and what is stored of them (N, W)."""
        if self._parts is None:
            return row_NE, row_NE
        centred_NE = row_NE - self._parts[0]
        return centred_NE, centred_NE @ self._parts[1]

    def squared_error(self, centred_NE: Tensor, exact_NW: Tensor, found_NW: Tensor) -> float:
        """Σ ‖row - row that follows from what was found on disk‖².

        With B of orthogonal columns, BᵀB = Σ, and (x - μ) B = c Σ, that is Σ ‖x - μ‖² less
        Σ S c' (2 c - c'): a product of matrices saved. Where little is left over, rows are compared.
        """
        if self._parts is not None:
            _, _, basis_RE, singular_R = self._parts
            energy = _sum(torch.linalg.vector_norm(centred_NE, dim=1).square())
            kept = _sum((found_NW * (2 * exact_NW - found_NW)) @ singular_R)
            if energy - kept > LITTLE * energy:
                return energy - kept
            found_NW = found_NW @ basis_RE
        return _sum(torch.linalg.vector_norm(centred_NE - found_NW, dim=1).square())


def _sum(values_N: Tensor) -> float:
    """In float64."""
    return float(values_N.sum(dtype=torch.float64))


def write_rows(path: Path, at: int, parts: Iterable[Tensor], projection: Projection, dtype: Dtype) -> float:
    """Write unit rows, (N, E) fp32 at a time, as a bank stores them.

    Args:
        path: A file that has room for them.
        at: Byte of the first.
        parts: The rows.
        projection: What is stored of them.
        dtype: Of the numbers stored.

    Returns:
        Σ ‖row - row as it is read back from the file‖².

    Raises:
        OSError: No room on the disk.
    """
    squared = 0.0
    with path.open("r+b") as file:
        for row_NE in parts:
            centred_NE, exact_NW = projection.store(row_NE)
            stored_NW = narrow(exact_NW.numpy(), dtype)
            file.seek(at)
            file.write(stored_NW.data)
            file.flush()
            back = np.frombuffer(os.pread(file.fileno(), stored_NW.nbytes, at), stored_NW.dtype)
            found_NW = torch.from_numpy(widen(back.reshape(stored_NW.shape)))
            squared += projection.squared_error(centred_NE, exact_NW, found_NW)
            at += stored_NW.nbytes
    return squared
