"""From a hidden state to a feature of the memory's width.

Shapes: B samples, L tokens, D hidden width, M = L·D, C numbers kept of a token, E memory width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmem.draws import Draws

if TYPE_CHECKING:
    from genmem_repulsor import RepulsorConfig

KEPT = 16
"""C."""


def make_head(config: RepulsorConfig, width: int, out: int) -> nn.Module:
    """(B, L, D) to (B, E), for D = `width` and E = `out`."""
    if config.pool == "flatten-jl":
        return FlatProjection(out, config.seed)
    if config.tokens is not None:
        pool: nn.Module = TokenCompress(width, config.tokens)
        pooled = KEPT * config.tokens
    else:
        pool, pooled = MeanPool(), width
    return nn.Sequential(pool, *_layers(config, pooled, width, out))


def _layers(config: RepulsorConfig, pooled: int, width: int, out: int) -> list[nn.Module]:
    match config.head:
        case "jl":
            return [RandomProjection(pooled, out, config.seed)]
        case "linear":
            return [nn.Linear(pooled, out)]
        case "mlp":
            return [nn.LayerNorm(pooled), nn.Linear(pooled, width), nn.SiLU(), nn.Linear(width, out)]


class MeanPool(nn.Module):
    """The mean over tokens."""

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, D)."""
        return hidden_BLD.mean(1)


class TokenCompress(nn.Module):
    """A few learned numbers of each token, side by side: keeps where things are."""

    def __init__(self, width: int, tokens: int) -> None:
        """For L = `tokens` of D = `width`."""
        super().__init__()
        self.tokens = tokens
        self.layer = nn.Linear(width, KEPT)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L·C).

        Raises:
            ValueError: Another number of tokens.
        """
        if hidden_BLD.shape[1] != self.tokens:
            raise ValueError(
                f"tokens = {self.tokens}, but the hidden state has {hidden_BLD.shape[1]}; "
                f"set tokens = {hidden_BLD.shape[1]}"
            )
        compressed: Tensor = self.layer(hidden_BLD)
        return compressed.flatten(1)


class RandomProjection(nn.Module):
    """A fixed Gaussian projection: keeps squared lengths a dimension up to √(2/E), never drifts.

    ‖Rz‖² / E estimates ‖z‖² / D. It follows from the seed, so it is in no checkpoint.
    """

    matrix_DE: Tensor

    def __init__(self, width: int, out: int, seed: int) -> None:
        """From D = `width` to E = `out`."""
        super().__init__()
        matrix_DE = Draws(seed, torch.arange(width)).normal("repulsor/projection", (out,)) / math.sqrt(width)
        self.register_buffer("matrix_DE", matrix_DE, persistent=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """(B, E)."""
        return pooled_BD @ self.matrix_DE


class FlatProjection(nn.Module):
    """A fixed projection of a whole token map by signs alone, without a matrix.

    The M numbers are dealt at random to E heaps of equal size and added up with random signs, which
    keeps squared lengths as well as a dense matrix does: ‖Rz‖² / E estimates ‖z‖² / M, up to √(2/E)
    of it. M times 9 bytes instead of M times E numbers.
    """

    def __init__(self, out: int, seed: int) -> None:
        """To E = `out`; M is what comes first."""
        super().__init__()
        self.out, self.seed = out, seed
        self._deals: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, E)."""
        flat_BM = hidden_BLD.flatten(1)
        order_M, sign_M = self._deal(flat_BM.shape[1], flat_BM.device)
        padded_BM = F.pad(flat_BM, (0, len(order_M) - flat_BM.shape[1]))
        heaps_BEN = (padded_BM.index_select(1, order_M) * sign_M).view(len(flat_BM), self.out, -1)
        return heaps_BEN.sum(-1) * math.sqrt(self.out / flat_BM.shape[1])

    def _deal(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Order and signs (M,), M brought up to a multiple of E."""
        if (length, device) not in self._deals:
            number_M = torch.arange(-(-length // self.out) * self.out, device=device)
            word_M2 = Draws(self.seed, number_M).words("repulsor/deal", 2)
            sign_M = (1 - 2 * (word_M2[:, 1] & 1)).to(torch.int8)
            self._deals[length, device] = word_M2[:, 0].argsort(stable=True), sign_M
        return self._deals[length, device]
