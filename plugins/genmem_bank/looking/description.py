"""What a bank is, for people and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from genmem_bank.looking.spectrum import kept_by_rank
from genmem_bank.storage.card import CARD, Card, Mapped


def describe_bank(path: Path, card: Card) -> dict[str, Any]:
    """Everything about a bank but its rows (JSON).

    Raises:
        ValueError: A damaged basis.
    """
    return {
        "path": str(path),
        "kind": card.kind,
        "rows": card.rows,
        "added_rows": card.added_rows,
        "encoder": card.encoder,
        "settings": card.settings,
        "state": card.state,
        "width": card.width,
        "rank": card.rank,
        "energy": card.energy,
        "energy_by_rank": kept_by_rank(path, card),
        "error": card.error,
        "dtype": card.dtype,
        "bytes": sum((path / name).stat().st_size for name in (CARD, *card.files)),
        "identity": card.identity,
        "rows_hash": card.rows_hash,
        "maps": [attrs.asdict(one) for one in card.maps],
        "provenance": card.provenance,
    }


def show_bank(path: Path, card: Card) -> str:
    """The same in lines."""
    found = describe_bank(path, card)
    added = f", {card.added_rows:,} of them added" if card.added_rows else ""
    lines = {
        "rows": f"{card.rows:,}{added}{_drawn(card)}",
        "encoder": f"{card.encoder}, width {card.width}",
        "rank": _rank(card),
        "energy": ", ".join(f"{rank}: {share:.2%}" for rank, share in found["energy_by_rank"].items()),
        "error": ""
        if card.error is None
        else f"{card.error:.4g} of a row's norm, root mean square, read back",
        "stored": f"{found['bytes']:,} bytes, {card.dtype}",
        "identity": card.identity,
        "rows' hash": card.rows_hash,
        "made from": json.dumps(card.provenance),
    }
    told = [f"  {name:<11}{value}" for name, value in lines.items() if value]
    return "\n".join([f"bank {path}", *told, *(f"  {'map':<11}{show_map(one)}" for one in card.maps)])


def show_map(mapped: Mapped) -> str:
    """A map in a line: from what, how it was trained, what was found on held-out pictures."""
    of = f"{sum(map(len, mapped.texts))} names" if mapped.reads == "text" else "pictures"
    told = ", ".join(f"{name} {value:.4g}" for name, value in mapped.held_out.items())
    return (
        f"{mapped.name}: {of} by {mapped.use} (width {mapped.width}, {mapped.state[:16]}), {mapped.loss}, "
        f"{mapped.epochs} epochs of {mapped.pairs:,} rows, lr {mapped.lr:g}, seed {mapped.seed}; "
        f"held out: {told or 'no pictures'}"
    )


def _rank(card: Card) -> str:
    if card.rank is None:
        return "none: rows as they are"
    if card.energy is None:
        return f"{card.rank}; what it keeps is not known"
    return f"{card.rank}, which keeps {card.energy:.2%} of the energy about the mean"


def _drawn(card: Card) -> str:
    samples = card.segments[0].origin.samples
    if samples is None:
        return ""
    views = ", plain and mirrored" if samples.views == 2 else ""
    return f"{views}, {samples.drawn}" if samples.drawn else views
