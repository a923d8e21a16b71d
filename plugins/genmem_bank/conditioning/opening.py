"""The bank that a recipe names, if it is the one the recipe describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genmem.contracts import Facts
from genmem_bank.conditioning.store import SvdBank
from genmem_bank.storage.card import read_card

if TYPE_CHECKING:
    from genmem_bank import SvdBankConfig


def open_bank(config: SvdBankConfig, facts: Facts) -> SvdBank:
    """The bank of a recipe.

    Raises:
        FileNotFoundError: No bank at `config.path`.
        ValueError: A bank of another encoder, rank or width, or a damaged one.
    """
    card = read_card(Path(config.path))
    for name, found, expected in (
        ("encoder", card.encoder, config.encoder),
        ("rank", card.rank or "raw", config.rank),
        ("dtype", card.dtype, config.dtype),
        ("width", card.width, facts.feature_widths.get(config.encoder, card.width)),
    ):
        if found != expected:
            raise ValueError(
                f"{config.path}: {name} of this bank is {found!r}, expected {expected!r}; "
                "name another `path`, or remove the folder to build it anew"
            )
    return SvdBank(config, card)
