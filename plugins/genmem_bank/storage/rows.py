"""The stored rows of a bank, across its segments, and which sample and view each is.

Shapes: B rows asked for, N rows in all, W numbers stored for a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genmem_bank.storage.card import Card
from genmem_bank.storage.columns import map_column
from genmem_bank.storage.files import map_segment
from genmem_bank.storage.tensors import widen

NONE = -1


class StoredRows:
    """Memory maps of a bank's segments, for one process; nothing is read before it is asked for."""

    def __init__(self, folder: Path, card: Card) -> None:
        """Map the files that the card names.

        Raises:
            ValueError: One that is missing, cut short or of another shape.
        """
        self._folder, self._segments = folder, card.segments
        self._width = card.stored_width
        self._start_S = np.array(card.starts)
        self._stored = [map_segment(folder, card, segment) for segment in card.segments]
        self._numbers = [map_column(folder, segment, "numbers") for segment in card.segments]
        self._labels = [map_column(folder, segment, "labels") for segment in card.segments]

    def __len__(self) -> int:
        return int(self._start_S[-1])

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(stored.nbytes for stored in self._stored)

    def part(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, W) fp32: consecutive rows as they are stored."""
        pieces = [
            widen(stored[max(start - first, 0) : max(stop - first, 0)])
            for first, stored in zip(self._start_S.tolist(), self._stored, strict=False)
        ]
        return np.concatenate(pieces)

    def take(self, number_B: np.ndarray) -> np.ndarray:
        """(B, W) fp32: rows by number, in any order.

        Raises:
            IndexError: A number that is not a row.
        """
        segment_B, place_B = self._places(number_B)
        rows_BW = np.empty((len(place_B), self._width), np.float32)
        for segment in np.unique(segment_B).tolist():
            there_B = segment_B == segment
            rows_BW[there_B] = widen(self._stored[segment][place_B[there_B]])
        return rows_BW

    def samples(self, number_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sample numbers (B,) and views (B,) of rows, int64; -1 for rows that are no samples'.

        Raises:
            IndexError: A number that is not a row.
        """
        segment_B, place_B = self._places(number_B)
        sample_B, view_B = np.full((2, len(place_B)), NONE, np.int64)
        for segment in np.unique(segment_B).tolist():
            samples = self._segments[segment].origin.samples
            if samples is None:
                continue
            there_B, numbers_N = segment_B == segment, self._numbers[segment]
            view_B[there_B], within_B = np.divmod(place_B[there_B], samples.count)
            sample_B[there_B] = samples.first + within_B if numbers_N is None else numbers_N[within_B]
        return sample_B, view_B

    def labels(self, number_B: np.ndarray) -> np.ndarray:
        """Classes (B,) int64 of rows; -1 where none is known.

        Raises:
            IndexError: A number that is not a row.
        """
        segment_B, place_B = self._places(number_B)
        label_B = np.full(len(place_B), NONE, np.int64)
        for segment in np.unique(segment_B).tolist():
            label_N = self._labels[segment]
            if label_N is not None:
                there_B = segment_B == segment
                label_B[there_B] = label_N[place_B[there_B] % len(label_N)]
        return label_B

    def find(self, sample_B: np.ndarray, view_B: np.ndarray, split: str = "train") -> np.ndarray:
        """Row numbers (B,) int64 of samples of a split in these views; -1 for those that have no row."""
        row_B = np.full(len(sample_B), NONE, np.int64)
        for first, segment, numbers_N in zip(
            self._start_S.tolist(), self._segments, self._numbers, strict=False
        ):
            samples = segment.origin.samples
            if samples is None or samples.split != split:
                continue
            if numbers_N is None:
                within_B = sample_B - samples.first
                there_B = (within_B >= 0) & (within_B < samples.count)
            else:
                within_B = np.searchsorted(numbers_N, sample_B).clip(max=samples.count - 1)
                there_B = numbers_N[within_B] == sample_B
            there_B = there_B & (view_B >= 0) & (view_B < samples.views)
            row_B[there_B] = first + view_B[there_B] * samples.count + within_B[there_B]
        return row_B

    def _places(self, number_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The segment (B,) of each row, and its place (B,) there."""
        number_B = np.asarray(number_B, np.int64)
        outside_B = (number_B < 0) | (number_B >= len(self))
        if outside_B.any():
            raise IndexError(
                f"{self._folder}: row {number_B[outside_B][0]} was asked for, "
                f"but the bank's rows are 0 to {len(self) - 1}"
            )
        segment_B = np.searchsorted(self._start_S, number_B, side="right") - 1
        return segment_B, number_B - self._start_S[segment_B]
