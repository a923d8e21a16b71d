"""Maps beside a bank: written whole or not at all, opened when somebody asks.

Shapes: B pictures or texts, E width of a row, H W C picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Encoder
from genmem.host import did_you_mean
from genmem_bank.mapping.makers import open_encoder
from genmem_bank.mapping.network import RowMap, shapes_of
from genmem_bank.storage.card import Card, Mapped, read_card, write_card
from genmem_bank.storage.files import lock, write_encoder
from genmem_bank.storage.tensors import map_tensors, write_tensors


def require_new(folder: Path, card: Card, name: str) -> None:
    """Refuse a name that a map of the bank has already.

    Raises:
        ValueError: It has; a map is never put in place of another.
    """
    if name in {one.name for one in card.maps}:
        raise ValueError(f"{folder}: there is a map {name!r} already; say --name OTHER to keep both")


def keep_map(
    folder: Path, identity: str, arrays: Mapping[str, np.ndarray], learned: bytes | None, mapped: Mapped
) -> Mapped:
    """Add a map to the bank in `folder`, with what its encoder learned; as it is on the card.

    Raises:
        ValueError: The bank was built anew meanwhile, or has a map of this name; nothing is written.
    """
    with lock(folder):
        card = read_card(folder)
        if card.identity != identity:
            raise ValueError(f"{folder}: this bank was built anew meanwhile; nothing was written")
        require_new(folder, card, mapped.name)
        digest = hash_map(arrays)
        file = f"map-{digest[:16]}.safetensors"
        write_tensors(folder / file, {name: ("F32", values) for name, values in arrays.items()})
        kept = None if learned is None else write_encoder(folder, learned)
        mapped = attrs.evolve(mapped, file=file, hash=digest, encoder_file=kept)
        write_card(folder, attrs.evolve(card, maps=(*card.maps, mapped)))
    return mapped


def hash_map(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over a map's tensors in order."""
    digest = hashlib.sha256()
    for name in arrays:
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def read_map(folder: Path, card: Card, mapped: Mapped) -> RowMap:
    """The network of a map.

    Raises:
        ValueError: Its file is missing, cut short or changed.
    """
    shapes = shapes_of(mapped.width, mapped.hidden, card.width)
    path = folder / mapped.file
    arrays = map_tensors(path, {name: ("F32", shape) for name, shape in shapes.items()})
    if hash_map(arrays) != mapped.hash:
        raise ValueError(f"{path}: changed since the map was made; make another map")
    return RowMap.of_arrays(arrays)


def find_map(folder: Path, card: Card, name: str) -> Mapped:
    """The map of this name.

    Raises:
        ValueError: There is none; those that there are are named.
    """
    names = [one.name for one in card.maps]
    if name not in names:
        there = did_you_mean(name, names) or f"; there are: {', '.join(names) or 'none'}"
        raise ValueError(f"{folder}: no map {name!r}{there}; `genmem bank map` makes one")
    return card.maps[names.index(name)]


class OpenMap:
    """A map with its encoder, on a device."""

    def __init__(self, folder: Path, card: Card, name: str, device: torch.device) -> None:
        """Read both.

        Raises:
            RecipeError: The encoder is not installed.
            ValueError: No such map; one of other weights than it was made with, or a damaged one.
        """
        mapped = find_map(folder, card, name)
        self._network = read_map(folder, card, mapped).to(device)
        self._encoder: Encoder = open_encoder(folder, mapped, device)
        self._device = device

    def __call__(self, given: np.ndarray) -> Tensor:
        """(B, E), of norm 1, for pictures (B, H, W, C) or texts (B,).

        Raises:
            ValueError: What the encoder refuses.
        """
        feature_BD = np.asarray(self._encoder.encode(given).pooled_BD, np.float32)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            found: Tensor = self._network(torch.from_numpy(feature_BD).to(self._device))
        return found
