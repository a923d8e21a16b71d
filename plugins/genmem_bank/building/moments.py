"""Mean and scatter of rows that pass by once, and the basis that follows from them.

Shapes: N rows of a part, E width, R rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from genmem_bank.storage.files import Basis

EXACT = 1 << 25
"""Numbers up to which products are taken in float64 at once: it costs nothing there."""

STEEP = 1e-4
"""Share of the largest eigenvalue of the scatter below which products in fp32 do not tell one."""


STRIP = 128
"""Rows of the products that are worked out at once."""


class Moments(NamedTuple):
    """Of some rows, in float64."""

    rows: int
    mean_E: np.ndarray
    scatter_EE: np.ndarray
    """Σ (x - mean)(x - mean)ᵀ."""


class Decomposition(NamedTuple):
    """The basis, and all that it was chosen from."""

    basis: Basis
    spectrum_E: np.ndarray
    """All singular values of M - μ, largest first."""

    @property
    def rank(self) -> int:
        """R."""
        return len(self.basis.singular_R)

    @property
    def energy(self) -> float:
        """Share of the energy about the mean that the basis keeps."""
        return float(energies(self.spectrum_E)[self.rank - 1])


def sum_moments(chunks: Iterable[Tensor]) -> Moments:
    """Mean and scatter of all rows of parts (N, E); sums over parts are float64.

    Parts in float64 give every digit. Of parts in fp32 the product of a part's rows about the mean is fp32:
    its rounding is some 1e-7 of the largest eigenvalue, and moves the directions with the large ones, and
    so the error of a bank of them, by far less than anybody could see. `is_steep` says where it does not do.

    Raises:
        ValueError: There are none.
    """
    # Sums are taken about the first part's mean: a mean far from 0 would cancel digits otherwise.
    origin_E: Tensor | None = None
    total = 0
    for rows_NE in chunks:
        if origin_E is None:
            origin_E, width = rows_NE.mean(0), rows_NE.shape[1]
            sum_E, square_EE = np.zeros(width), np.zeros((width, width))
        shifted_NE = rows_NE - origin_E
        total += len(rows_NE)
        sum_E += (shifted_NE.new_ones(len(rows_NE)) @ shifted_NE).numpy()
        add_products(square_EE, shifted_NE)
    if origin_E is None:
        raise ValueError("there are no rows")
    square_EE = np.triu(square_EE) + np.triu(square_EE, 1).T
    return Moments(
        total, origin_E.double().numpy() + sum_E / total, square_EE - np.outer(sum_E, sum_E) / total
    )


def add_products(square_EE: np.ndarray, rows_NE: Tensor) -> None:
    """Add the upper triangle of Σ x xᵀ; what stands below it afterwards means nothing.

    By torch, like all else in a build: the threads of a second library, which wait for work by spinning,
    would take the processors from the first one's.
    """
    width = rows_NE.shape[1]
    for start in range(0, width, STRIP):
        stop = min(start + STRIP, width)
        square_EE[start:stop, start:] += (rows_NE[:, start:stop].T @ rows_NE[:, start:]).numpy()


def join_moments(parts: Iterable[Moments]) -> Moments:
    """Moments of all rows from those of disjoint parts, taken in order.

    Σ (x - μ)(x - μ)ᵀ = Σ_parts [scatter + n (mean - μ)(mean - μ)ᵀ], two parts at a time.
    """
    joined: Moments | None = None
    for part in parts:
        if joined is None:
            joined = Moments(part.rows, np.array(part.mean_E), np.array(part.scatter_EE))
            continue
        count, apart_E = joined.rows + part.rows, part.mean_E - joined.mean_E
        scatter_EE = joined.scatter_EE + part.scatter_EE
        scatter_EE += np.outer(apart_E, apart_E) * (joined.rows * part.rows / count)
        joined = Moments(count, joined.mean_E + apart_E * (part.rows / count), scatter_EE)
    if joined is None:
        raise ValueError("there are no rows")
    return joined


def is_steep(found: Decomposition) -> bool:
    """Whether the smallest direction kept is lost in the rounding of products in fp32."""
    return bool(found.basis.singular_R[-1] ** 2 < STEEP * found.spectrum_E[0] ** 2)


def energies(spectrum_E: np.ndarray) -> np.ndarray:
    """(E,): the share of energy that ranks 1 … E keep."""
    squares_E = np.square(spectrum_E)
    total = squares_E.sum()
    return np.asarray(np.cumsum(squares_E) / total if total else np.ones_like(squares_E))


def decompose(moments: Moments, rank: int | None, energy: float | None = None) -> Decomposition:
    """B = V Σ^½, S and μ from the moments (GMem, eq. 8).

    The eigenvalues of the scatter are the squares of the singular values of M - μ.

    Args:
        moments: Of the bank's rows.
        rank: Dimensions to keep.
        energy: In its place: keep the fewest that have this share of the energy.

    Raises:
        ValueError: A rank above the width, or above the directions the rows span.
    """
    count, width = moments.rows, len(moments.mean_E)
    if rank is not None and rank > width:
        raise ValueError(f"rank = {rank}, but the features have width {width}; choose {width} or less")
    value_E, vector_EE = np.linalg.eigh(moments.scatter_EE)
    value_E, vector_EE = value_E[::-1].clip(min=0.0), vector_EE[:, ::-1]
    # Below this an eigenvalue is the rounding of the sums, and eq. 10 would divide by it.
    spanned = int((value_E > count * width * np.finfo(np.float64).eps).sum())
    if rank is None:
        shares_E = energies(np.sqrt(value_E))
        rank = min(int(np.searchsorted(shares_E, energy or 0.0)) + 1, max(spanned, 1))
    if rank > spanned:
        raise ValueError(
            f"rank = {rank}, but {count} rows of width {width} span {spanned} directions about their mean; "
            f"choose {spanned} or less"
        )
    singular_R = np.sqrt(value_E[:rank])
    basis = Basis(moments.mean_E, vector_EE[:, :rank] * np.sqrt(singular_R), singular_R)
    return Decomposition(basis, np.sqrt(value_E))
