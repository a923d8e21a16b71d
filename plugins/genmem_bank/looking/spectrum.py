"""What a rank keeps, in words and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genmem.extras import import_extra
from genmem_bank.building.moments import energies
from genmem_bank.storage.card import Card
from genmem_bank.storage.files import read_spectrum

PICTURE = "spectrum.png"


def kept_by_rank(folder: Path, card: Card) -> dict[int, float]:
    """{rank: share of the energy about the mean}: 1, 2, 4 …, the bank's own, and the width.

    Empty for a raw bank, and for one whose other singular values nobody knows.
    """
    if card.rank is None:
        return {}
    shares_E = energies(read_spectrum(folder, card))
    if not np.isfinite(shares_E).all():
        return {}
    powers = [2**i for i in range(card.width.bit_length()) if 2**i < card.width]
    ranks = sorted({*powers, card.rank, card.width})
    return {rank: float(shares_E[rank - 1]) for rank in ranks}


def known_spectrum(folder: Path, card: Card) -> tuple[float, ...]:
    """Singular values of M - μ, largest first, up to the first that nobody knows; none of a raw bank.

    Raises:
        ValueError: A damaged basis.
    """
    if card.rank is None:
        return ()
    spectrum_E = read_spectrum(folder, card)
    return tuple(spectrum_E[np.isfinite(spectrum_E)].tolist())


def draw_spectrum(folder: Path, card: Card) -> Path:
    """Draw singular values, and the energy that is lost at each rank, into the bank's folder.

    Raises:
        MissingExtra: matplotlib is not installed.
        ValueError: A damaged basis; a raw bank.
    """
    import_extra("matplotlib", "report")
    from matplotlib.figure import Figure

    spectrum_E = read_spectrum(folder, card)
    rank_E = np.arange(1, len(spectrum_E) + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(rank_E, spectrum_E)
    left.set(xlabel="dimension", ylabel="singular value of M - μ")
    right.semilogy(rank_E[:-1], 1 - energies(spectrum_E)[:-1])
    right.set(xlabel="rank", ylabel="share of energy lost")
    for axes in (left, right):
        axes.axvline(card.rank, color="black", linewidth=0.8, linestyle="--")
        axes.grid(alpha=0.3)
    figure.suptitle(f"{card.encoder}, {card.rows:,} rows of width {card.width}: rank {card.rank}")
    figure.savefig(folder / PICTURE, dpi=120)
    return folder / PICTURE
