"""The rows of a bank before they are stored: unit features of samples, in the bank's order.

Plain rows first, then the mirrored ones in the same order: row = view · count + place.
Shapes: N rows of a part, E width.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem_bank.storage.card import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genmem.contracts import DatasetFolder, Split

PART_BYTES = 1 << 24
"""Of a part in float64: large enough for a matrix product to be fast, and small beside any memory."""


@attrs.frozen(kw_only=True)
class Features:
    """Which features of which samples become rows."""

    dataset: DatasetFolder
    encoder: str
    split: Split = "train"
    views: int = 1
    count: int
    """Samples."""

    numbers: np.ndarray | None = None
    """(count,) int64, ascending, where samples were chosen."""

    drawn: str = ""
    """How they were chosen."""

    learned: bytes | None = None
    """What the encoder has learned, as a safetensors file, where the data set does not keep it."""

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.count * self.views

    def maker(self) -> tuple[str, str, str]:
        """Name, settings and state of the encoder, as the data set's provenance has them."""
        about = self.provenance()
        settings = about.get("encoders", {}).get(self.encoder, "")
        text = settings if isinstance(settings, str) else json.dumps(settings)
        return self.encoder, text, about.get("states", {}).get(self.encoder, "")

    def provenance(self) -> dict[str, Any]:
        """The data set's, as it comes back from JSON: tuples are lists, keys are text."""
        plain: dict[str, Any] = json.loads(json.dumps(self.dataset.provenance()))
        return plain

    def samples(self, numbers: str | None, labels: str | None = None) -> Samples:
        """What the rows are, for the card; with the files of chosen samples and of classes."""
        return Samples(
            split=self.split,
            count=self.count,
            views=self.views,
            numbers=numbers,
            labels=labels,
            drawn=self.drawn,
        )

    def labels(self) -> np.ndarray | None:
        """(count,) int64: the samples' classes; None where the set has none."""
        label_N = self.dataset.labels(self.split)
        label_N = label_N if self.numbers is None else label_N[self.numbers]
        return label_N if (label_N >= 0).any() else None

    def width(self) -> int:
        """E.

        Raises:
            ValueError: No samples, or features that are no vectors.
        """
        if not self.count:
            raise ValueError("the training set is empty; a bank needs at least one row")
        return int(self.read(0, 1).shape[1])

    def parts(self, start: int, stop: int, width: int, dtype: torch.dtype) -> Iterator[Tensor]:
        """(N, E): unit rows start … stop - 1, some at a time (GMem, eq. 6).

        Raises:
            ValueError: Features of another width, that are zero, or that are not finite.
        """
        size = max(1, PART_BYTES // (8 * width))
        for first in range(start, stop, size):
            rows_NE = self.read(first, min(first + size, stop))
            if rows_NE.shape[1] != width:
                raise ValueError(
                    f"{self._name(first)} has width {rows_NE.shape[1]}, those before have {width}"
                )
            given_NE = torch.from_numpy(rows_NE)
            found_NE = given_NE.to(dtype)
            norm_N = torch.linalg.vector_norm(found_NE, dim=1)
            if not _have_direction(norm_N).all():  # or squares that leave the range of fp32
                norm_N = torch.linalg.vector_norm(given_NE, dim=1, dtype=torch.float64)
            bad_N = ~_have_direction(norm_N)
            if bad_N.any():
                number = int(bad_N.nonzero()[0])
                raise ValueError(_complain(self._name(first + number), norm_N[bad_N].numpy()))
            yield found_NE / norm_N[:, None].to(dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, E): the features of consecutive rows, as the data set has them.

        Raises:
            ValueError: Features that are no vectors.
        """
        parts = []
        for view in range(self.views):
            first, last = max(start - view * self.count, 0), min(stop - view * self.count, self.count)
            if first < last:
                parts.append(self._read_view(first, last, view))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_view(self, first: int, last: int, view: int) -> np.ndarray:
        if self.numbers is None:
            return self._ask(first, last, view)
        wanted_N, found = self.numbers[first:last], []
        # Neighbours are read together, with what lies between them, a part's length at most.
        while len(wanted_N):
            near = int(np.searchsorted(wanted_N, wanted_N[0] + (last - first)))
            span_NE = self._ask(int(wanted_N[0]), int(wanted_N[near - 1]) + 1, view)
            found.append(span_NE[wanted_N[:near] - wanted_N[0]])
            wanted_N = wanted_N[near:]
        return np.concatenate(found)

    def _ask(self, start: int, stop: int, view: int) -> np.ndarray:
        rows_NE = np.asarray(self.dataset.feature(self.split, self.encoder, start, stop, view))
        if rows_NE.ndim != 2 or len(rows_NE) != stop - start:
            raise ValueError(
                f"{self.dataset.path}: feature {self.encoder!r} has shape {rows_NE.shape} for samples "
                f"{start} to {stop - 1}, expected ({stop - start}, width); a bank is made of one vector "
                "per sample"
            )
        if rows_NE.dtype.kind != "f":
            raise ValueError(
                f"{self.dataset.path}: feature {self.encoder!r} is {rows_NE.dtype}, expected floating point; "
                "nothing was written"
            )
        return rows_NE

    def _name(self, row: int) -> str:
        view, place = divmod(row, self.count)
        number = place if self.numbers is None else int(self.numbers[place])
        mirrored = ", mirrored," if view else ""
        return f"{self.dataset.path}: feature {self.encoder!r} of sample {number}{mirrored}"


def _have_direction(norm_N: Tensor) -> Tensor:
    return norm_N.isfinite() & (norm_N > 0)


def _complain(what: str, norm_N: np.ndarray) -> str:
    kind = "zero" if norm_N[0] == 0 else "not finite"
    return (
        f"{what} is {kind} ({len(norm_N)} such nearby), so it has no direction; nothing was written. "
        "Remove the sample, or use another encoder"
    )
