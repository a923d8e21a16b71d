"""Building a bank: two streaming passes over the features, never an N × E decomposition.

Pass one sums the moments of the unit rows in float64; the eigenvectors of their covariance are the
right singular vectors of M - μ. Pass two writes the coefficients. Nothing grows with N.
Shapes: N rows of a chunk, E width, R rank.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genmem_bank.files import (
    CARD,
    Basis,
    Card,
    identity_of,
    read_card,
    write_basis,
    write_card,
    write_rows,
)

if TYPE_CHECKING:
    from genmem.contracts import DatasetFolder
    from genmem_bank import SvdBankConfig

CHUNK = 4096


def prepare_bank(config: SvdBankConfig, dataset: DatasetFolder) -> None:
    """Build the bank at `config.path` if it is missing; check that it fits if it is there.

    Raises:
        ValueError: A bank of something else, or features no bank can be made of.
    """
    folder = Path(config.path)
    if (folder / CARD).exists():
        require_fit(read_card(folder), config, dataset)
    else:
        build_bank(config, dataset)


def require_fit(card: Card, config: SvdBankConfig, dataset: DatasetFolder) -> None:
    """Refuse a bank that is not the one the recipe describes.

    Raises:
        ValueError: Names both sides of every difference.
    """
    provenance = _plain(dataset.provenance())
    pairs: dict[str, tuple[Any, Any]] = {
        "encoder": (card.encoder, config.encoder),
        "rank": (card.rank, config.rank),
        "dtype": (card.dtype, config.dtype),
        "rows": (card.rows, dataset.count("train")),
    }
    keys = sorted(card.provenance.keys() | provenance.keys())
    pairs |= {f"provenance.{key}": (card.provenance.get(key), provenance.get(key)) for key in keys}
    differences = [f"{name} is {a!r}, expected {b!r}" for name, (a, b) in pairs.items() if a != b]
    if differences:
        raise ValueError(
            f"{config.path}: this bank is another one: {'; '.join(differences)}. "
            "Name another `path`, or remove the folder to build it anew"
        )


def build_bank(config: SvdBankConfig, dataset: DatasetFolder) -> Card:
    """Decompose the training set's features and store the bank at `config.path`.

    Raises:
        ValueError: Zero or non-finite features, or a rank above what the rows span.
    """
    count = dataset.count("train")
    mean_E, scatter_EE = sum_moments(unit_chunks(dataset, config.encoder))
    basis, energy = decompose(mean_E, scatter_EE, count, config.rank)
    folder = Path(config.path)
    folder.mkdir(parents=True, exist_ok=True)
    chunks = (coefficients(rows_NE, basis) for rows_NE in unit_chunks(dataset, config.encoder))
    rows_file, rows_hash = write_rows(folder, chunks, (count, config.rank), config.dtype)
    identity = identity_of(config.encoder, basis)
    card = Card(
        encoder=config.encoder,
        rank=config.rank,
        width=len(mean_E),
        rows=count,
        dtype=config.dtype,
        energy=energy,
        identity=identity,
        rows_hash=rows_hash,
        basis_file=write_basis(folder, identity, basis),
        rows_file=rows_file,
        provenance=_plain(dataset.provenance()),
    )
    write_card(folder, card)
    return card


def unit_chunks(dataset: DatasetFolder, encoder: str) -> Iterator[np.ndarray]:
    """(N, E) float64: f / ‖f‖ of consecutive training samples (GMem, eq. 6).

    Raises:
        ValueError: Features that are no vectors, are zero, or are not finite.
    """
    count = dataset.count("train")
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        rows_NE = np.asarray(dataset.feature("train", encoder, start, stop), np.float64)
        if rows_NE.ndim != 2 or len(rows_NE) != stop - start:
            raise ValueError(
                f"{dataset.path}: feature {encoder!r} has shape {rows_NE.shape} for samples {start} to "
                f"{stop - 1}, expected ({stop - start}, width); a bank is made of one vector per sample"
            )
        norm_N = np.linalg.norm(rows_NE, axis=1)
        _require_direction(norm_N, start, f"{dataset.path}: feature {encoder!r}")
        yield rows_NE / norm_N[:, None]


def sum_moments(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean μ (E,) and scatter Σ (x - μ)(x - μ)ᵀ (E, E) of all rows, in float64."""
    # Sums are taken about the first chunk's mean: a mean far from 0 would cancel digits otherwise.
    origin_E: np.ndarray | None = None
    total, sum_E, square_EE = 0, np.zeros(1), np.zeros((1, 1))
    for rows_NE in chunks:
        origin_E = rows_NE.mean(0) if origin_E is None else origin_E
        shifted_NE = rows_NE - origin_E
        total += len(rows_NE)
        sum_E = sum_E + shifted_NE.sum(0)
        square_EE = square_EE + shifted_NE.T @ shifted_NE
    if origin_E is None:
        raise ValueError("the training set is empty; a bank needs at least one row")
    return origin_E + sum_E / total, square_EE - np.outer(sum_E, sum_E) / total


def decompose(mean_E: np.ndarray, scatter_EE: np.ndarray, count: int, rank: int) -> tuple[Basis, float]:
    """B = V Σ^½, S and μ from the moments, and the share of energy that `rank` keeps.

    The eigenvalues of the scatter are the squares of the singular values of M - μ (GMem, eq. 8).

    Raises:
        ValueError: A rank above the width, or above the directions the rows span.
    """
    width = len(mean_E)
    if rank > width:
        raise ValueError(f"rank = {rank}, but the features have width {width}; choose {width} or less")
    value_E, vector_EE = np.linalg.eigh(scatter_EE)
    value_E, vector_EE = value_E[::-1].clip(min=0.0), vector_EE[:, ::-1]
    # Below this an eigenvalue is the rounding of the sums, and eq. 10 would divide by it.
    spanned = int((value_E > count * width * np.finfo(np.float64).eps).sum())
    if rank > spanned:
        raise ValueError(
            f"rank = {rank}, but {count} rows of width {width} span {spanned} directions about their mean; "
            f"choose {spanned} or less"
        )
    singular_R = np.sqrt(value_E[:rank])
    basis = Basis(mean_E, vector_EE[:, :rank] * np.sqrt(singular_R), singular_R)
    return basis, float(value_E[:rank].sum() / value_E.sum())


def coefficients(rows_NE: np.ndarray, basis: Basis) -> np.ndarray:
    """c = (f - μ) B / S (GMem, eq. 10); over the bank's own rows that is C = U Σ^½."""
    return np.asarray((rows_NE - basis.mean_E) @ basis.basis_ER / basis.singular_R)


def _require_direction(norm_N: np.ndarray, start: int, what: str) -> None:
    bad = np.flatnonzero(~(np.isfinite(norm_N) & (norm_N > 0)))
    if len(bad):
        kind = "zero" if norm_N[bad[0]] == 0 else "not finite"
        raise ValueError(
            f"{what} of sample {start + bad[0]} is {kind} ({len(bad)} such in this chunk), so it has no "
            "direction; nothing was written. Remove the sample, or use another encoder"
        )


def _plain(provenance: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON: tuples are lists, keys are text."""
    plain: dict[str, Any] = json.loads(json.dumps(provenance))
    return plain
