"""A recipe's bank: built if it is missing, compared with the recipe if it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.features import Features
from genmem_bank.storage.card import CARD, Card, read_card

if TYPE_CHECKING:
    from genmem.contracts import DatasetFolder
    from genmem_bank import SvdBankConfig


def prepare_bank(config: SvdBankConfig, dataset: DatasetFolder) -> None:
    """Build the bank at `config.path` if it is missing; check that it fits if it is there.

    Raises:
        ValueError: A bank of something else, or features no bank can be made of.
    """
    folder = Path(config.path)
    if (folder / CARD).exists():
        require_fit(read_card(folder), config, dataset)
        return
    count = dataset.count("train")
    features = Features(dataset=dataset, encoder=config.encoder, views=dataset.views, count=count)
    build_bank(folder, features, Form(rank=config.dimensions, dtype=config.dtype))


def require_fit(card: Card, config: SvdBankConfig, dataset: DatasetFolder) -> None:
    """Refuse a bank that is not the one the recipe describes. Rows that were added change nothing.

    Raises:
        ValueError: Names both sides of every difference.
    """
    provenance = json.loads(json.dumps(dataset.provenance()))
    pairs: dict[str, tuple[Any, Any]] = {
        "encoder": (card.encoder, config.encoder),
        "rank": (card.rank or "raw", config.rank),
        "dtype": (card.dtype, config.dtype),
    }
    samples = card.segments[0].origin.samples
    if samples is not None and samples.numbers is None:
        pairs |= {"rows": (samples.count, dataset.count("train")), "views": (samples.views, dataset.views)}
    keys = sorted(card.provenance.keys() | provenance.keys())
    pairs |= {f"provenance.{key}": (card.provenance.get(key), provenance.get(key)) for key in keys}
    differences = [f"{name} is {a!r}, expected {b!r}" for name, (a, b) in pairs.items() if a != b]
    if differences:
        raise ValueError(
            f"{config.path}: this bank is another one: {'; '.join(differences)}. "
            "Name another `path`, or remove the folder to build it anew"
        )
