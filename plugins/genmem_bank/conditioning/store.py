"""A bank as a memory: rows are decoded in batches, on the device.

Shapes: B samples, K = 1 memory a sample, E width, W numbers stored for a row, N rows of a chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.attention import Chunk, closest, rows_at_once
from genmem.contracts import Ability, Attended, Hide, MemoryStore, Metric
from genmem_bank.conditioning.attending import attend_rows
from genmem_bank.conditioning.code import open_code
from genmem_bank.conditioning.drawing import Classes, draw_by_noise
from genmem_bank.conditioning.frame import Frame, frame_of
from genmem_bank.conditioning.masking import Masking, mask_rows
from genmem_bank.looking.spectrum import known_spectrum
from genmem_bank.mapping.keeping import OpenMap
from genmem_bank.storage.card import Card
from genmem_bank.storage.rows import NONE, StoredRows

if TYPE_CHECKING:
    from genmem.contracts import Batch, Reads
    from genmem.draws import Draws
    from genmem_bank import SvdBankConfig


class SvdBank(MemoryStore):
    """Rows c Bᵀ + μ of a frozen bank (GMem, eq. 8-11), or rows as they are."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"condition", "attend", "nearest"})

    def __init__(self, config: SvdBankConfig, card: Card) -> None:
        """Open the bank at `config.path`; rows stay on disk until they are asked for.

        Raises:
            ValueError: Damaged files.
        """
        self.config, self.card = config, card
        self._opened: tuple[int, StoredRows] | None = None
        self._stored()
        self.to(torch.device("cpu"))

    @property
    def width(self) -> int:
        """E, the feature's width."""
        return self.card.width

    @property
    def num_rows(self) -> int:
        """Rows, those that were added among them."""
        return self.card.rows

    def to(self, device: torch.device) -> None:
        """Put μ, B and S on the device."""
        self._device = device
        self._translators: dict[str, OpenMap] = {}
        self._code, basis = open_code(Path(self.config.path), self.card, device)
        self._frame: Frame | None = None if basis is None else frame_of(basis, device)

    # condition -----------------------------------------------------------------------------

    def fetch(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray | None:
        """(B, W) fp32: the samples' own rows as they are stored; None where training draws them.

        Raises:
            IndexError: A sample that has no row, or not in this view.
        """
        return None if self.config.train_row == "drawn" else self._own(index_B, view_B)

    def read(self, batch: Batch, fetched: Tensor | None, draws: Draws | None) -> Tensor:
        """(B, 1, E): the samples' own rows; where `draws` are given (training), masked, or any rows."""
        if draws is not None and self.config.train_row == "drawn":
            # Rows that are added later do not change what a seed trains on.
            built = self.num_rows - self.card.added_rows
            fetched = self.codes(draws.integers(f"row/{self.config.encoder}", built))
        if fetched is None:
            fetched = torch.from_numpy(self._own(batch.index_B.cpu().numpy(), batch.view_B.cpu().numpy()))
        row_BE = self.decode(fetched)[:, 0]
        if draws is not None:
            c = self.config
            masking = Masking(c.mask, c.mask_ratio, c.mask_rule, c.mask_scale)
            row_BE = mask_rows(row_BE, masking, draws, c.encoder)
        return row_BE[:, None]

    def codes(self, number_B: Tensor) -> Tensor:
        """(B, W) fp32: rows by number, as they are stored.

        Raises:
            IndexError: A number that is not a row.
        """
        return torch.from_numpy(self._stored().take(number_B.cpu().numpy())).to(self._device)

    def code(self, batch: Batch) -> Tensor:
        """(B, W) from the batch's features: c = (f/‖f‖ - μ) B / S (eq. 10).

        Raises:
            ValueError: A zero or non-finite feature.
        """
        feature_BE = batch.features[self.config.encoder].to(self._device, torch.float32)
        norm_B1 = feature_BE.norm(dim=1, keepdim=True)
        if not bool(((norm_B1 > 0) & norm_B1.isfinite()).all()):
            raise ValueError(
                f"feature {self.config.encoder!r} of some sample is zero or not finite, so it has no "
                "direction; leave the sample out, or use another encoder"
            )
        return self._code.encode(feature_BE / norm_B1)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, 1, E) fp32: c Bᵀ + μ (eq. 9), brought to unit norm where the recipe says so."""
        with torch.autocast(self._device.type, enabled=False):
            row_BE = self._code.decode(codes.to(self._device, torch.float32))
        return (F.normalize(row_BE, dim=1) if self.config.normalise else row_BE)[:, None]

    def mix(self, first: Tensor, second: Tensor, share_B: Tensor, spherical: bool = False) -> Tensor:
        """(B, W): share · first + (1 - share) · second (eq. 11), the ends exactly."""
        share_B = self._code.share(first, second, share_B) if spherical else share_B
        return share_B[:, None] * first + (1 - share_B)[:, None] * second

    def choose(self, draws: Draws, label_B: Tensor | None, noise: Tensor) -> Tensor:
        """Row numbers (B,), as `draw` says: any row, any of a class, or the one of a noise.

        Raises:
            ValueError: Classes that no row has.
        """
        purpose = f"choose/{self.config.encoder}"
        if self.config.draw == "noise":
            return draw_by_noise(noise, self.num_rows)
        if self.config.draw == "class-balanced":
            return self._classes.draw(draws, label_B, purpose)
        return draws.integers(purpose, self.num_rows)

    def maps(self) -> Mapping[str, Reads]:
        """The maps that `genmem bank map` made."""
        return {one.name: one.reads for one in self.card.maps}

    def translate(self, name: str, given: np.ndarray) -> Tensor:
        """(B, W): what a map makes of pictures or texts, as rows are stored (eq. 10).

        Raises:
            RecipeError: The map's encoder is not installed.
            ValueError: No such map, a damaged one, or weights that its encoder did not have.
        """
        if name not in self._translators:
            self._translators[name] = OpenMap(Path(self.config.path), self.card, name, self._device)
        return self._code.encode(self._translators[name](given))

    def samples_of(self, number_B: Tensor) -> Tensor:
        """(B,): the training sample each row was built from; -1 for a row of anything else."""
        return torch.from_numpy(self._stored().samples(number_B.cpu().numpy())[0]).to(number_B.device)

    def labels_of(self, number_B: Tensor) -> Tensor:
        """(B,): the class of each row's sample, -1 where there is none."""
        return torch.from_numpy(self._stored().labels(number_B.cpu().numpy())).to(number_B.device)

    # attend, nearest -----------------------------------------------------------------------

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """log-sum-exp over all rows; of a low-rank bank in rank-R space.

        Raises:
            ValueError: To hide by classes or times, of which the bank knows nothing.
        """
        return attend_rows(self._frame, q_BE, self._chunks(), scale, hide, metric)

    def nearest(self, q_BE: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k) and numbers (B, k) of the k closest rows.

        Raises:
            ValueError: k above the number of rows.
        """
        return closest(q_BE if self._frame is None else self._frame.project(q_BE), self._chunks(), k)

    # state ---------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """Identity (encoder, width, μ, B, S), and the rows the bank was built with."""
        card = self.card
        built = [segment.hash for segment in card.segments if segment.origin.added is None]
        encoder = {"name": card.encoder, "settings": card.settings, "state": card.state}
        form = {"kind": card.kind, "encoder": encoder, "width": card.width, "rank": card.rank}
        return {"identity": card.identity, "built": built, **form}

    def describe(self) -> dict[str, Any]:
        """Rows built and added with their hash, where they come from, how they are drawn."""
        card = self.card
        rows = {"built_rows": card.rows - card.added_rows, "added_rows": card.added_rows}
        source = {"data": card.provenance.get("fingerprint"), "source": card.provenance}
        drawn = {"drawn": self.config.draw, "normalised": self.config.normalise}
        return rows | {"rows_hash": card.rows_hash} | source | drawn

    def spectrum(self) -> tuple[float, ...]:
        """Singular values of M - μ, as many as are known; none of a raw bank."""
        return known_spectrum(Path(self.config.path), self.card)

    def num_bytes(self) -> int:
        """Rows as they are stored, and the basis."""
        return self._stored().nbytes + self._code.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_classes"} | {
            "_opened": None,
            "_translators": {},
        }

    @cached_property
    def _classes(self) -> Classes:
        return Classes(self._stored().labels(np.arange(self.num_rows)))

    def _stored(self) -> StoredRows:
        """The memory maps of this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), StoredRows(Path(self.config.path), self.card)
        return self._opened[1]

    def _own(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray:
        row_B = self._stored().find(index_B, view_B)
        if (row_B == NONE).any():
            first = int(np.flatnonzero(row_B == NONE)[0])
            raise IndexError(
                f"{self.config.path}: sample {index_B[first]}, view {view_B[first]}, has no row in this "
                'bank; build it of all samples and views, or train with train_row = "drawn"'
            )
        return self._stored().take(row_B)

    def _chunks(self) -> Iterator[Chunk]:
        """Rows (their coordinates, in a low-rank bank), of unit norm where rows are, and sample numbers."""
        stored, size = self._stored(), rows_at_once(self._device)
        for start in range(0, self.num_rows, size):
            stop = min(start + size, self.num_rows)
            keys_NW = torch.from_numpy(stored.part(start, stop)).to(self._device)
            keys_NF = keys_NW if self._frame is None else self._frame.place(keys_NW)
            ids_N = torch.from_numpy(stored.samples(np.arange(start, stop))[0]).to(self._device)
            yield Chunk(F.normalize(keys_NF, dim=1) if self.config.normalise else keys_NF, ids_N)
