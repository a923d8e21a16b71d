"""A bank on disk: a card in JSON that names two files of tensors.

    bank.json                 what the bank is, and the names of the other two
    basis-<hash>.safetensors  mean (E), basis (E, R), singular (R), in float64
    rows-<hash>.safetensors   coefficients (N, R), fp32 or bf16

The card is written last and replaced at once, so a folder holds a whole bank or none.
Shapes: N rows, R rank, E width.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import cattrs
import numpy as np

from genmem_bank.tensors import DTYPES, STORED, Dtype, header, map_tensors, narrow, replace

CARD = "bank.json"
_FORMAT = 1
_ANEW = "remove the bank's folder to build it anew"


class Basis(NamedTuple):
    """What turns coefficients into rows: row = c Bᵀ + μ (GMem, eq. 9). float64."""

    mean_E: np.ndarray
    basis_ER: np.ndarray
    """B = V Σ^½."""

    singular_R: np.ndarray
    """S, the singular values of M - μ, largest first."""


@attrs.frozen(kw_only=True)
class Card:
    """What a bank is."""

    format: int = _FORMAT
    encoder: str
    """Name of the feature its rows are made of."""

    rank: int
    width: int
    rows: int
    dtype: Dtype
    energy: float
    """Share of the centred rows' energy that the rank keeps."""

    identity: str
    """Hash of encoder, width, μ, B and S: what a model was trained with."""

    rows_hash: str
    """Hash of the coefficients."""

    basis_file: str
    rows_file: str
    provenance: dict[str, Any]
    """Where the features came from: the data set's own provenance."""


def identity_of(encoder: str, basis: Basis) -> str:
    """Hash of encoder, width, μ, B and S."""
    digest = hashlib.sha256(json.dumps([encoder, len(basis.mean_E)]).encode())
    for array in basis:
        digest.update(np.ascontiguousarray(array, "<f8").tobytes())
    return digest.hexdigest()


def write_card(folder: Path, card: Card) -> None:
    """Make the bank whole: from here on `folder` holds this one."""
    replace(folder / CARD, [(json.dumps(attrs.asdict(card), indent=2) + "\n").encode()])


def read_card(folder: Path) -> Card:
    """The card of the bank in `folder`.

    Raises:
        FileNotFoundError: No bank there.
        ValueError: A card that cannot be read, or of another format.
    """
    path = folder / CARD
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no bank here; `genmem bank build RECIPE` or `genmem train RECIPE` builds it"
        )
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, and this version reads {_FORMAT}")
        return cattrs.structure(content, Card)
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise ValueError(f"{path}: no readable card of a bank ({error}); {_ANEW}") from error


def write_basis(folder: Path, identity: str, basis: Basis) -> str:
    """Store the basis; the name of its file."""
    arrays = dict(zip(("mean", "basis", "singular"), basis, strict=True))
    head = header({name: ("F64", array.shape) for name, array in arrays.items()})
    file = f"basis-{identity[:16]}.safetensors"
    replace(folder / file, [head, *(np.ascontiguousarray(a, "<f8").tobytes() for a in arrays.values())])
    return file


def read_basis(folder: Path, card: Card) -> Basis:
    """The basis of a bank.

    Raises:
        ValueError: A file that is missing, cut short, or not the one the card was written for.
    """
    path = folder / card.basis_file
    arrays = map_tensors(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {"mean": (card.width,), "basis": (card.width, card.rank), "singular": (card.rank,)}
    if shapes != expected:
        raise ValueError(f"{path}: holds {shapes}, expected {expected}; {_ANEW}")
    basis = Basis(*(np.array(arrays[name]) for name in expected))
    if identity_of(card.encoder, basis) != card.identity:
        raise ValueError(f"{path}: changed since the bank was built; {_ANEW}")
    return basis


def write_rows(
    folder: Path, chunks: Iterator[np.ndarray], shape: tuple[int, int], dtype: Dtype
) -> tuple[str, str]:
    """Store coefficients of `shape` (N, R) as their chunks come; the name of their file, their hash."""
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        yield header({"coefficients": (STORED[dtype], shape)})
        for chunk in chunks:
            block = narrow(chunk, dtype).tobytes()
            digest.update(block)
            yield block

    # The hash, and so the name, is known only at the end.
    written = folder / f".rows-{os.getpid()}"
    replace(written, blocks())
    file = f"rows-{digest.hexdigest()[:16]}.safetensors"
    written.replace(folder / file)
    return file, digest.hexdigest()


def map_rows(folder: Path, card: Card) -> np.ndarray:
    """The stored coefficients (N, R) as a memory map; `widen` makes numbers of a part of it.

    Raises:
        ValueError: A file that is missing, cut short, or of another shape than the card says.
    """
    path = folder / card.rows_file
    arrays = map_tensors(path)
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    expected = {"coefficients": ((card.rows, card.rank), DTYPES[STORED[card.dtype]])}
    if found != expected:
        raise ValueError(f"{path}: holds {found}, expected {expected}; {_ANEW}")
    return arrays["coefficients"]


def hash_rows(rows_NR: np.ndarray, chunk: int = 65_536) -> str:
    """Hash of stored coefficients, for comparison with the card."""
    digest = hashlib.sha256()
    for start in range(0, len(rows_NR), chunk):
        digest.update(rows_NR[start : start + chunk].tobytes())
    return digest.hexdigest()
