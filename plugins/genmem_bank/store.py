"""The low-rank bank as a memory: rows are reconstructed in batches, on the device.

Shapes: B samples, K = 1 memory a sample, E width, R rank, N rows of a chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.attention import Chunk, closest, log_sum_exp, rows_at_once
from genmem.contracts import Ability, Attended, Facts, Hide, MemoryStore, Metric
from genmem_bank.files import Basis, Card, map_rows, read_basis, read_card
from genmem_bank.frame import frame_of
from genmem_bank.masking import mask_rows
from genmem_bank.tensors import widen

if TYPE_CHECKING:
    from genmem.contracts import Batch
    from genmem.draws import Draws
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
        ("rank", card.rank, config.rank),
        ("dtype", card.dtype, config.dtype),
        ("width", card.width, facts.feature_widths.get(config.encoder, card.width)),
    ):
        if found != expected:
            raise ValueError(
                f"{config.path}: {name} of this bank is {found!r}, expected {expected!r}; "
                "name another `path`, or remove the folder to build it anew"
            )
    return SvdBank(config, card)


class SvdBank(MemoryStore):
    """Rows c_i Bᵀ + μ of a frozen bank (GMem, eq. 8-10)."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"condition", "attend", "nearest"})

    def __init__(self, config: SvdBankConfig, card: Card) -> None:
        """Open the bank at `config.path`; coefficients stay on disk until they are asked for.

        Raises:
            ValueError: Damaged files.
        """
        self.config = config
        self.card = card
        basis = read_basis(Path(config.path), card)
        self._opened: tuple[int, np.ndarray] | None = None
        self._coefficients()
        self._place(basis, torch.device("cpu"))
        self._basis = basis

    @property
    def width(self) -> int:
        """E, the feature's width."""
        return self.card.width

    @property
    def num_rows(self) -> int:
        """Rows: samples of the training set."""
        return self.card.rows

    def to(self, device: torch.device) -> None:
        """Put μ, B and S on the device."""
        self._place(self._basis, device)

    # condition -----------------------------------------------------------------------------

    def fetch(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray:
        """Coefficients (B, R) fp32 of the samples' own rows.

        Raises:
            IndexError: A sample that has no row.
            ValueError: A mirrored view, of which the bank has no rows.
        """
        if view_B.any():
            raise ValueError(
                f"{self.config.path}: holds rows of plain pictures only, but a mirrored one was asked for; "
                "prepare the data set without mirrored views"
            )
        outside = (index_B < 0) | (index_B >= self.num_rows)
        if outside.any():
            raise IndexError(
                f"{self.config.path}: row {index_B[outside][0]} was asked for, "
                f"but the bank's rows are 0 to {self.num_rows - 1}"
            )
        return widen(self._coefficients()[index_B])

    def read(self, batch: Batch, fetched: Tensor | None, draws: Draws | None) -> Tensor:
        """(B, 1, E): the samples' own rows, masked where `draws` are given (training)."""
        if fetched is None:
            fetched = torch.from_numpy(self.fetch(batch.index_B.cpu().numpy(), batch.view_B.cpu().numpy()))
        row_BE = self.reconstruct(fetched.to(self._mean_E.device))
        if draws is not None:
            c = self.config
            row_BE = mask_rows(row_BE, c.mask, c.mask_ratio, c.mask_rule, draws, c.encoder)
        return row_BE[:, None]

    def encode(self, batch: Batch) -> Tensor:
        """(B, 1, E) from the batch's features: c = (f/‖f‖ - μ) B / S, then as any row (eq. 10).

        Raises:
            ValueError: A zero or non-finite feature.
        """
        feature_BE = batch.features[self.config.encoder].to(self._mean_E.device, torch.float32)
        norm_B1 = feature_BE.norm(dim=1, keepdim=True)
        if not bool(((norm_B1 > 0) & norm_B1.isfinite()).all()):
            raise ValueError(
                f"feature {self.config.encoder!r} of some sample is zero or not finite, so it has no "
                "direction; leave the sample out, or use another encoder"
            )
        centred_BE = feature_BE / norm_B1 - self._mean_E
        return self.reconstruct(centred_BE @ self._basis_ER / self._singular_R)[:, None]

    def choose(self, draws: Draws, label_B: Tensor | None, noise: Tensor) -> Tensor:
        """Row numbers (B,), uniform over the bank."""
        return draws.integers(f"choose/{self.config.encoder}", self.num_rows)

    def rows(self, number_B: Tensor) -> Tensor:
        """(B, 1, E): rows by number.

        Raises:
            IndexError: A number that is not a row.
        """
        numbers = number_B.cpu().numpy()
        coefficient_BR = torch.from_numpy(self.fetch(numbers, np.zeros_like(numbers)))
        return self.reconstruct(coefficient_BR.to(self._mean_E.device))[:, None]

    def samples_of(self, number_B: Tensor) -> Tensor:
        """(B,): row i was built from training sample i."""
        return number_B

    def reconstruct(self, coefficient_BR: Tensor) -> Tensor:
        """Rows (B, E) fp32: c Bᵀ + μ (eq. 9), brought to unit norm where the recipe says so."""
        with torch.autocast(coefficient_BR.device.type, enabled=False):
            row_BE = coefficient_BR.float() @ self._basis_ER.mT + self._mean_E
        return F.normalize(row_BE, dim=1) if self.config.normalise else row_BE

    # attend, nearest -----------------------------------------------------------------------

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """log-sum-exp over all rows, in rank-R space.

        Raises:
            ValueError: To hide by classes or times, of which the bank knows nothing.
        """
        with torch.autocast(q_BE.device.type, enabled=False):
            q_BE = q_BE.float()
            inside_BR = self._frame.project(q_BE)
            found = log_sum_exp(inside_BR, self._chunks(), scale, hide, metric)
            if metric == "dot":
                return found
            # Rows have no part outside the frame, so what a query has there is as far from all of them.
            apart_B = (q_BE - self._frame.restore(inside_BR)).square().sum(1)
            return Attended(found.lse_B - scale * apart_B * (found.count_B > 0), found.count_B)

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and numbers (B, k) of the k closest rows.

        Raises:
            ValueError: k above the number of rows.
        """
        return closest(self._frame.project(q_BE), self._chunks(), k)

    # state ---------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """Identity (encoder, width, μ, B, S) and the rows' own hash and number."""
        return {
            "identity": self.card.identity,
            "rows_hash": self.card.rows_hash,
            "rows": self.card.rows,
            "encoder": self.card.encoder,
            "width": self.card.width,
            "rank": self.card.rank,
        }

    def num_bytes(self) -> int:
        """Coefficients as they are stored, and the basis."""
        basis = sum(tensor.nbytes for tensor in (self._mean_E, self._basis_ER, self._singular_R))
        return self._coefficients().nbytes + basis

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _coefficients(self) -> np.ndarray:
        """The memory map of this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), map_rows(Path(self.config.path), self.card)
        return self._opened[1]

    def _place(self, basis: Basis, device: torch.device) -> None:
        self._mean_E, self._basis_ER, self._singular_R = (
            torch.from_numpy(array).to(device, torch.float32) for array in basis
        )
        self._frame = frame_of(basis, device)

    def _chunks(self) -> Iterator[Chunk]:
        """Coordinates of the rows, brought to unit norm where rows are, and sample numbers."""
        device = self._mean_E.device
        size = rows_at_once(device)
        for start in range(0, self.num_rows, size):
            stored_NR = widen(self._coefficients()[start : start + size])
            keys_NR = self._frame.place(torch.from_numpy(stored_NR).to(device))
            ids_N = torch.arange(start, start + len(keys_NR), device=device)
            yield Chunk(F.normalize(keys_NR, dim=1) if self.config.normalise else keys_NR, ids_N)
