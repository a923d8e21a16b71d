"""Least-squares decoding of memory rows to samples: how much of a picture its row already says.

Shapes: N samples, E width of a row, any sample shape (C, H, W).
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features


@attrs.frozen(eq=False)
class LinearDecode:
    """x = row · weight + intercept, in float64 on the CPU."""

    weight_ED: Tensor
    intercept_D: Tensor
    sample_shape: tuple[int, ...]

    def decode(self, rows: Features) -> Tensor:
        """Samples (N, C, H, W) float64 from rows (N, E), or (N, K, E) taken as one row.

        Raises:
            TypeError, ValueError: Not floating-point, another width, or not finite.
        """
        rows_NE = read_features("memory rows", rows.reshape(len(rows), -1), width=len(self.weight_ED)).cpu()
        return (rows_NE @ self.weight_ED + self.intercept_D).reshape(-1, *self.sample_shape)


def fit(rows: Features, samples: Features) -> LinearDecode:
    """The decode with the least squared error over (N, E) or (N, K, E) rows and their N samples.

    Where rows do not fix it (fewer samples than width), the one with the smallest weights.

    Raises:
        TypeError, ValueError: Not floating-point, different counts, fewer than two samples, or
            a value that is not finite.
    """
    rows_NE = read_features("memory rows", rows.reshape(len(rows), -1), least=2).cpu()
    samples_ND = read_features("samples", samples.reshape(len(samples), -1)).cpu()
    if len(rows_NE) != len(samples_ND):
        raise ValueError(f"{len(rows_NE)} memory rows for {len(samples_ND)} samples")
    row_E, sample_D = rows_NE.mean(0), samples_ND.mean(0)
    # gelsd (an SVD) also where the rows are of lower rank than their width.
    weight_ED = torch.linalg.lstsq(rows_NE - row_E, samples_ND - sample_D, driver="gelsd").solution
    return LinearDecode(weight_ED, sample_D - row_E @ weight_ED, tuple(samples.shape[1:]))
