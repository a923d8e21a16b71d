"""GMem's published bank files as banks, without running anything in them.

    a tensor (N, E)                       the rows, as their encoder gave them
    {C, M, S, mean, …}                    C = U Σ^½ (N, R), M = V Σ^½ (E, R), S (R), mean (E)
    {memorybank, memoryfreq, network}     rows beside the weights of a network

Shapes: N rows, E width, R rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
from torch import Tensor

from genmem.exchange.files import read_pickle
from genmem_bank.storage.card import CARD, Card, Origin, write_card
from genmem_bank.storage.files import Basis, identity_of, lock, write_basis, write_segment
from genmem_bank.storage.tensors import Dtype

PART = 1 << 14
_ROWS = "memorybank"
_PARTS = ("C", "M", "S", "mean")
_ROUNDING = 1e-3
"""What the mean square norm of unit rows may be above 1; of their projections it is below."""


@attrs.frozen(kw_only=True)
class Imported:
    """What became of a file."""

    card: Card
    scale: float
    """What the norm of decomposed rows was divided by, so that it is about 1; 1: it was."""

    left_out: tuple[str, ...]
    """Entries that a bank has no use for."""


def import_bank(file: Path, folder: Path, encoder: str, dtype: Dtype = "fp32") -> Imported:
    """Make a bank of a published file.

    Rows are brought to norm 1, which GMem's code does whenever it uses them.

    Args:
        file: A `.pth` file.
        folder: Of the bank; there must be none.
        encoder: Name of the feature, as recipes call it.
        dtype: Of what is stored.

    Raises:
        FileNotFoundError: No such file.
        FileExistsError: A bank is in `folder`.
        ValueError: A damaged file, one that holds code, or no bank; nothing is written.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    if (folder / CARD).exists():
        raise FileExistsError(f"{folder}: there is a bank already, and nothing is overwritten")
    content = read_pickle(file)
    if isinstance(content, Tensor):
        content = {_ROWS: content}
    if not isinstance(content, Mapping) or not (_ROWS in content or set(_PARTS) <= set(content)):
        entries = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(
            f"{file}: holds {entries}; a bank is a tensor, a dict with {_ROWS}, or one with "
            f"{', '.join(_PARTS)}"
        )
    found = _Found.of_rows(file, content) if _ROWS in content else _Found.of_parts(file, content)
    if found.basis is not None and dtype == "fp16":
        raise ValueError("--dtype fp16 is for rows as they are; coefficients are stored in fp32 or bf16")
    used = {_ROWS} if _ROWS in content else {*_PARTS, "latent_dim", "feature_dim"}
    left_out = tuple(sorted({str(key) for key in content} - used))
    return Imported(card=_store(file, folder, encoder, dtype, found), scale=found.scale, left_out=left_out)


def _store(
    file: Path,
    folder: Path,
    encoder: str,
    dtype: Dtype,
    found: _Found,
) -> Card:
    """Write the bank; its card is written last."""
    basis, count = found.basis, len(found.stored_NW)
    width = found.stored_NW.shape[1] if basis is None else len(basis.mean_E)
    identity = identity_of((encoder, "", ""), width, basis)
    card = Card(
        kind="raw" if basis is None else "low-rank",
        encoder=encoder,
        rank=None if basis is None else len(basis.singular_R),
        width=width,
        dtype=dtype,
        energy=1.0 if basis is None else None,
        error=None,
        identity=identity,
        basis_file=None,
        segments=(),
        provenance={"imported": {"file": file.name, "sha256": _hash(file), "divided by": found.scale}},
    )
    there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            segment = write_segment(folder, card, found.parts(file), count, Origin())
            card = attrs.evolve(card, segments=(segment,))
            if basis is not None:
                spectrum_E = np.full(width, np.nan)
                spectrum_E[: len(basis.singular_R)] = basis.singular_R
                card = attrs.evolve(card, basis_file=write_basis(folder, identity, basis, spectrum_E))
            write_card(folder, card)
    except ValueError:
        if not there:
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()
        raise
    return card


class _Found(NamedTuple):
    """A bank as it lies in a file."""

    stored_NW: Tensor
    basis: Basis | None = None
    scale: float = 1.0
    """What the norm of rows is divided by."""

    @classmethod
    def of_rows(cls, file: Path, content: Mapping[str, Any]) -> _Found:
        """Rows as their encoder gave them."""
        return cls(_matrix(file, content, "memorybank"))

    @classmethod
    def of_parts(cls, file: Path, content: Mapping[str, Any]) -> _Found:
        """A decomposition of such rows: (C, M, S, mean) becomes that of rows divided by their norm.

        Of rows that are not of norm 1 already, the norm is taken for all of them together, its root
        mean square: C / √norm, M / √norm, S / norm and mean / norm keep every row's direction.
        """
        stored_NR, basis_ER = _matrix(file, content, "C"), _array(file, content, "M", 2)
        singular_R, mean_E = _array(file, content, "S", 1), _array(file, content, "mean", 1)
        (width, rank), count = basis_ER.shape, len(stored_NR)
        if (stored_NR.shape[1], len(singular_R), len(mean_E)) != (rank, rank, width):
            shapes = {name: tuple(content[name].shape) for name in _PARTS}
            raise ValueError(f"{file}: shapes {shapes} do not fit each other")
        if not (singular_R > 0).all():
            raise ValueError(f"{file}: a singular value in S is not above 0, and eq. 10 divides by it")
        square = float(mean_E @ mean_E + singular_R @ singular_R / count)
        scale = math.sqrt(square) if square > 1 + _ROUNDING else 1.0
        root = math.sqrt(scale)
        return cls(stored_NR, Basis(mean_E / scale, basis_ER / root, singular_R / scale), scale)

    def parts(self, file: Path) -> Iterator[np.ndarray]:
        """(n, W) float64: what a bank stores."""
        for start in range(0, len(self.stored_NW), PART):
            part_NW = self.stored_NW[start : start + PART].double().numpy()
            if self.basis is not None:
                yield part_NW / math.sqrt(self.scale)
                continue
            norm_N = np.linalg.norm(part_NW, axis=1)
            bad = np.flatnonzero(~(np.isfinite(norm_N) & (norm_N > 0)))
            if len(bad):
                raise ValueError(f"{file}: row {start + bad[0]} is zero or not finite; nothing was written")
            yield part_NW / norm_N[:, None]


def _array(file: Path, content: Mapping[str, Any], name: str, dimensions: int) -> np.ndarray:
    value = content.get(name)
    if not isinstance(value, Tensor) or value.ndim != dimensions or not value.is_floating_point():
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{file}: {name} is {found}, expected numbers in {dimensions} dimensions")
    array: np.ndarray = value.double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{file}: {name} holds numbers that are not finite; nothing was written")
    return array


def _matrix(file: Path, content: Mapping[str, Any], name: str) -> Tensor:
    value = content.get(name)
    if not isinstance(value, Tensor) or value.ndim != 2 or not len(value) or not value.is_floating_point():
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{file}: {name} is {found}, expected a matrix of numbers, a row for each sample")
    return value.detach()


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
