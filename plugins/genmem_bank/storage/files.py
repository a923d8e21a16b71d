"""A bank on disk: a card in JSON that names files of tensors.

    bank.json                   what the bank is, and the names of the others
    basis-<hash>.safetensors    spectrum (E), mean (E), basis (E, R), singular (R), in float64
    rows-<hash>.safetensors     one for each segment: coefficients (N, R) or rows (N, E)
    numbers-<hash>.safetensors  sample numbers (count), where rows were chosen
    encoder-<hash>.safetensors  what the encoder has learned, where the data set does not keep it
    map-<hash>.safetensors      a map from other features to rows

A raw bank has no basis. Everything is read as a memory map.
Shapes: N rows of a segment, R rank, E width, W = R or E numbers stored for a row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np
from filelock import FileLock

from genmem_bank.storage.card import ANEW, CARD, Added, Card, Origin, Segment, read_card, write_card
from genmem_bank.storage.tensors import STORED, Dtype, header, map_tensors, narrow, replace, write_tensors

Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Basis(NamedTuple):
    """What turns coefficients into rows: row = c Bᵀ + μ (GMem, eq. 9). float64."""

    mean_E: np.ndarray
    basis_ER: np.ndarray
    """B = V Σ^½."""

    singular_R: np.ndarray
    """S, the singular values of M - μ, largest first."""


def identity_of(encoder: tuple[str, str, str], width: int, basis: Basis | None) -> str:
    """Hash of the encoder's (name, settings, state), the width, and μ, B and S."""
    digest = hashlib.sha256(json.dumps([*encoder, width]).encode())
    for array in basis or ():
        digest.update(np.ascontiguousarray(array, "<f8").tobytes())
    return digest.hexdigest()


# basis -------------------------------------------------------------------------------------


def write_basis(folder: Path, identity: str, basis: Basis, spectrum_E: np.ndarray) -> str:
    """Store the basis, and all singular values; the name of its file."""
    file = f"basis-{identity[:16]}.safetensors"
    arrays = dict(zip(("spectrum", "mean", "basis", "singular"), (spectrum_E, *basis), strict=True))
    write_tensors(folder / file, {name: ("F64", array) for name, array in arrays.items()})
    return file


def read_basis(folder: Path, card: Card) -> Basis:
    """The basis of a low-rank bank.

    Raises:
        ValueError: A raw bank; a file that is missing, cut short, or not the one the card was
            written for.
    """
    arrays = _map_basis(folder, card)
    basis = Basis(*(np.array(arrays[name]) for name in ("mean", "basis", "singular")))
    if identity_of((card.encoder, card.settings, card.state), card.width, basis) != card.identity:
        raise ValueError(f"{folder / str(card.basis_file)}: changed since the bank was built; {ANEW}")
    return basis


def read_spectrum(folder: Path, card: Card) -> np.ndarray:
    """(E,) float64: all singular values of M - μ, largest first; NaN where an import does not know.

    Raises:
        ValueError: As `read_basis`.
    """
    return np.array(_map_basis(folder, card)["spectrum"])


def _map_basis(folder: Path, card: Card) -> dict[str, np.ndarray]:
    if card.basis_file is None or card.rank is None:
        raise ValueError(f"{folder}: a raw bank has no basis")
    width, rank = card.width, card.rank
    shapes: Shapes = {name: ("F64", (width,)) for name in ("spectrum", "mean")}
    shapes |= {"basis": ("F64", (width, rank)), "singular": ("F64", (rank,))}
    return map_tensors(folder / card.basis_file, shapes)


# rows --------------------------------------------------------------------------------------


def rows_header(card_kind: str, dtype: Dtype, shape: tuple[int, int]) -> bytes:
    """The head of a segment's file, behind which its rows lie."""
    return header(_rows_shapes(card_kind, dtype, shape))


def map_segment(folder: Path, card: Card, segment: Segment) -> np.ndarray:
    """The stored rows (N, W) of a segment as a memory map; `widen` makes numbers of a part of it.

    Raises:
        ValueError: A file that is missing, cut short, or of another shape than the card says.
    """
    shapes = _rows_shapes(card.kind, card.dtype, (segment.rows, card.stored_width))
    (rows_NW,) = map_tensors(folder / segment.file, shapes).values()
    return rows_NW


def write_encoder(folder: Path, state: bytes) -> str:
    """Store what an encoder has learned; the name of the file."""
    file = f"encoder-{hashlib.sha256(state).hexdigest()[:16]}.safetensors"
    replace(folder / file, [state])
    return file


def name_segment(digest: str) -> str:
    """The file of a segment whose stored rows have this hash."""
    return f"rows-{digest[:16]}.safetensors"


def write_segment(
    folder: Path, card: Card, chunks: Iterable[np.ndarray], rows: int, origin: Origin
) -> Segment:
    """Store `rows` rows, (n, W) at a time, as a file that the card does not name yet.

    Raises:
        ValueError: Chunks of another width, with entries that are not finite, or that are more or
            fewer rows than announced; nothing is left behind.
    """
    digest, found = hashlib.sha256(), 0

    def blocks() -> Iterator[bytes]:
        nonlocal found
        yield rows_header(card.kind, card.dtype, (rows, card.stored_width))
        for chunk_nW in chunks:
            _require_rows(folder, card, chunk_nW)
            found += len(chunk_nW)
            block = narrow(chunk_nW, card.dtype).tobytes()
            digest.update(block)
            yield block
        if found != rows:
            raise ValueError(f"{folder}: {found} rows came, {rows} were announced; nothing was written")

    # The hash, and so the name, is known only at the end.
    written = folder / f".rows-{os.getpid()}"
    replace(written, blocks())
    file = name_segment(digest.hexdigest())
    written.replace(folder / file)
    return Segment(file=file, hash=digest.hexdigest(), rows=rows, origin=origin)


def append_rows(folder: Path, chunks: Iterable[np.ndarray], added: Added) -> Card:
    """Add a row for each thing in `added` to the bank in `folder`; the bank's new card.

    The rows come as they are stored, (n, W): coefficients, or rows of norm 1. Whoever reads the bank
    meanwhile, and whoever is left when this is killed, has the old bank or the new one.

    Raises:
        FileNotFoundError: No bank there.
        ValueError: A damaged card, or rows that `write_segment` refuses.
    """
    with lock(folder):
        card = read_card(folder)
        segment = write_segment(folder, card, chunks, len(added.what), Origin(added=added))
        card = attrs.evolve(card, segments=(*card.segments, segment))
        write_card(folder, card)
    return card


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One writer at a time; files that no card names, of a killed one or an old bank, are removed."""
    with FileLock(folder / ".lock"):
        _sweep(folder)
        yield
        _sweep(folder)


def _rows_shapes(kind: str, dtype: Dtype, shape: tuple[int, int]) -> Shapes:
    return {"rows" if kind == "raw" else "coefficients": (STORED[dtype], shape)}


def _require_rows(folder: Path, card: Card, chunk_nW: np.ndarray) -> None:
    if chunk_nW.ndim != 2 or chunk_nW.shape[1] != card.stored_width:
        raise ValueError(f"{folder}: rows of shape {chunk_nW.shape}, expected (n, {card.stored_width})")
    if not np.isfinite(chunk_nW).all():
        raise ValueError(f"{folder}: a row is not finite; nothing was written")


def _sweep(folder: Path) -> None:
    named = set(read_card(folder).files) if (folder / CARD).exists() else set()
    for kind in ("rows-*", "basis-*", "numbers-*", "labels-*", "encoder-*", "map-*", ".*.partial", ".rows-*"):
        for path in folder.glob(kind):
            if path.name not in named:
                path.unlink()
