"""Label agreement: a classifier in closed form, fitted on the training pictures' features.

Kernel ridge regression to one-hot labels with a Gaussian kernel: no seed, no training run,
the same answer everywhere. Shapes: N rows, D width, K classes.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features

MAX_ROWS = 5000
"""Training rows kept; fitting costs their cube."""

_MEDIAN_ROWS = 1000
_RIDGE = 1e-3


@attrs.frozen(eq=False)
class Classifier:
    """Σ_i a_i exp(-|f - f_i|² / 2 s²), one output a class."""

    rows_ND: Tensor
    """Training rows it keeps, float64."""

    weights_NK: Tensor
    offset_K: Tensor
    bandwidth: float
    """s: the median distance between training rows."""

    def scores(self, features: Features) -> Tensor:
        """(N, K) float64: near 1 for the class a row belongs to, near 0 for others.

        Raises:
            TypeError, ValueError: Not floating-point, another width, or not finite.
        """
        rows = read_features("features", features, width=self.rows_ND.shape[1])
        return _kernel(rows, self.rows_ND, self.bandwidth) @ self.weights_NK + self.offset_K

    def predict(self, features: Features) -> Tensor:
        """(N,) int64: the class of each row.

        Raises:
            TypeError, ValueError: As `scores`.
        """
        return self.scores(features).argmax(1)

    def accuracy(self, features: Features, labels: np.ndarray | Tensor) -> float:
        """Share of rows whose predicted class is their label.

        Raises:
            TypeError, ValueError: As `scores`, or labels that do not fit.
        """
        labels_N = _read_labels(labels, len(features), len(self.offset_K))
        predicted_N = self.predict(features)
        return (predicted_N == labels_N.to(predicted_N.device)).double().mean().item()


def fit(features: Features, labels: np.ndarray | Tensor, num_classes: int) -> Classifier:
    """A classifier of features (N, D) with labels (N,) in 0 … num_classes - 1.

    Keeps at most 5,000 rows: evenly spaced ones in the order of (label, row number), so each
    class keeps its share.

    Raises:
        TypeError, ValueError: Not floating-point, not finite, labels that do not fit, a class
            without a row, or features that do not vary.
    """
    rows = read_features("training features", features, least=2)
    labels_N = _read_labels(labels, len(rows), num_classes)
    kept = _spread(labels_N, MAX_ROWS)
    rows_ND, labels_N = rows[kept.to(rows.device)], labels_N[kept].to(rows.device)
    absent = sorted(set(range(num_classes)) - set(labels_N.tolist()))
    if absent:
        raise ValueError(
            f"class {absent[0]} has no training row ({len(absent)} of {num_classes} classes have none)"
        )
    bandwidth = _median_distance(rows_ND)
    target_NK = torch.nn.functional.one_hot(labels_N, num_classes).double()
    offset_K = target_NK.mean(0)
    gram_NN = _kernel(rows_ND, rows_ND, bandwidth)
    gram_NN.diagonal().add_(_RIDGE)
    factor = torch.linalg.cholesky(gram_NN)
    return Classifier(rows_ND, torch.cholesky_solve(target_NK - offset_K, factor), offset_K, bandwidth)


def _kernel(x_ND: Tensor, y_MD: Tensor, bandwidth: float) -> Tensor:
    return torch.cdist(x_ND, y_MD).square_().mul_(-0.5 / bandwidth**2).exp_()


def _spread(labels_N: Tensor, most: int) -> Tensor:
    order = labels_N.argsort(stable=True)
    if len(order) <= most:
        return order.sort().values
    return order[torch.arange(most) * len(order) // most].sort().values


def _median_distance(rows_ND: Tensor) -> float:
    step = -(-len(rows_ND) // _MEDIAN_ROWS)
    median = torch.pdist(rows_ND[::step]).median().item()
    if median == 0:
        raise ValueError("training features do not vary: more than half of the rows' distances are 0")
    return median


def _read_labels(labels: np.ndarray | Tensor, count: int, num_classes: int) -> Tensor:
    labels_N = torch.from_numpy(np.array(labels)) if isinstance(labels, np.ndarray) else labels.cpu()
    if labels_N.is_floating_point() or labels_N.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {labels_N.dtype}")
    if labels_N.shape != (count,):
        raise ValueError(f"labels must be ({count},), one for each row, got shape {tuple(labels_N.shape)}")
    labels_N = labels_N.long()
    low, high = (int(labels_N.min()), int(labels_N.max())) if count else (0, 0)
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels must be in 0 … {num_classes - 1}, got {low} … {high}")
    return labels_N
