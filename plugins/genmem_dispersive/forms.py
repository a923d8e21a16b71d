"""The four forms, each as a dispersive loss and as its contrastive twin.

z are hidden states, p the second views of the same samples; every value is the mean over groups.
Shapes: G groups, N samples in a group, M numbers in a hidden state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from genmem_dispersive.distances import square_distances, standardise, to_sphere

if TYPE_CHECKING:
    from genmem_dispersive.config import DispersiveConfig

OFF_DIAGONAL = 5e-3
"""Weight of an off-diagonal entry in the covariance twin: Barlow Twins', as far as we recall."""


class Form(Protocol):
    """One way to say that hidden states are spread."""

    def disperse(self, z_GNM: Tensor) -> Tensor:
        """The dispersive loss, scalar."""

    def contrast(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        """The contrastive twin, scalar: the same with p_i pulled to z_i."""

    def floor(self, samples: int, width: int, *, twin: bool) -> float | None:
        """What no N states of M numbers can go below; None where we know no tight bound."""


class InfoNCE:
    """L = log 1/N² Σ_ij exp(-D_ij / τ); twin: E_i [D(z_i, p_i) / τ + log 1/N Σ_j exp(-D_ij / τ)].

    D = ‖z_i - z_j‖² / M. The diagonal i = j is in both sums: it ends the repulsion once all are far
    apart. What is worked out is D - D(z, z), in which small differences keep their digits.
    """

    nearest = 0.0
    """D(z, z)."""

    def __init__(self, temperature: float) -> None:
        """With this τ."""
        self.temperature = temperature

    def disperse(self, z_GNM: Tensor) -> Tensor:
        """In [-log N, 0] for D ≥ 0."""
        logits_GNN = -self._among(z_GNM) / self.temperature
        constant = 2 * math.log(z_GNM.shape[1]) + self.nearest / self.temperature
        return logits_GNN.flatten(1).logsumexp(1).mean() - constant

    def contrast(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        """Both terms, in which D(z, z) cancels; negatives are the samples of the first view."""
        repulsion_GN = (-self._among(z_GNM) / self.temperature).logsumexp(2) - math.log(z_GNM.shape[1])
        return (self._between(z_GNM, p_GNM) / self.temperature + repulsion_GN).mean()

    def floor(self, samples: int, width: int, *, twin: bool) -> float:
        """All as far apart as can be, each on its second view."""
        reach = (self._farthest(samples) - self.nearest) / self.temperature
        repelled = math.log1p((samples - 1) * math.exp(-reach)) - math.log(samples)
        return repelled if twin else repelled - self.nearest / self.temperature

    def _among(self, z_GNM: Tensor) -> Tensor:
        return square_distances(z_GNM)

    def _between(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        return (z_GNM - p_GNM).square().mean(2)

    def _farthest(self, samples: int) -> float:
        return math.inf


class Cosine(InfoNCE):
    """The same with D = -cos(z_i, z_j), from centred distances on the sphere: -cos = -1 + ‖·‖² / 2."""

    nearest = -1.0

    def _among(self, z_GNM: Tensor) -> Tensor:
        return square_distances(to_sphere(z_GNM)) / 2

    def _between(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        return (to_sphere(z_GNM) - to_sphere(p_GNM)).square().mean(2) / 2

    def _farthest(self, samples: int) -> float:
        # A simplex: ‖Σ unit vectors‖² ≥ 0 bounds the mean cosine of a pair by -1 / (N - 1).
        return 1 / (samples - 1)


class Hinge:
    """L = E_{i≠j} max(0, ε - D_ij)², D = ‖z_i - z_j‖² / M; twin: plus E_i D(z_i, p_i)².

    Pairs i = j are left out: each would add the constant ε².
    """

    def __init__(self, margin: float) -> None:
        """With this ε."""
        self.margin = margin

    def disperse(self, z_GNM: Tensor) -> Tensor:
        """In [0, ε²]."""
        short_GNN = (self.margin - square_distances(z_GNM)).clamp(min=0).square()
        others_NN = ~torch.eye(z_GNM.shape[1], dtype=torch.bool, device=z_GNM.device)
        return (short_GNN * others_NN).sum((1, 2)).mean() / (z_GNM.shape[1] * (z_GNM.shape[1] - 1))

    def contrast(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        """Both terms."""
        return (z_GNM - p_GNM).square().mean(2).square().mean() + self.disperse(z_GNM)

    def floor(self, samples: int, width: int, *, twin: bool) -> float:
        """All at ε or more."""
        return 0.0


class Covariance:
    """L = 1/M² Σ_mn C_mn², C the covariance over samples of standardised dimensions.

    C_mm = 1. The twin, Barlow Twins' loss, has C between the two views and is the mean of
    (C - I)² over all entries, where one on the diagonal counts 1 and one off it w:
    [Σ_m (1 - C_mm)² + w Σ_{m≠n} C_mn²] / (M + w M (M - 1)).
    No M × M matrix exists: Σ_mn C_mn² = Σ_ij A_ij B_ij / (N - 1)², A and B the views' N × N Grams.
    """

    def disperse(self, z_GNM: Tensor) -> Tensor:
        """In [1 / min(M, N - 1), 1]."""
        return _gram(standardise(z_GNM)).square().sum((1, 2)).mean()

    def contrast(self, z_GNM: Tensor, p_GNM: Tensor) -> Tensor:
        """Both terms."""
        z_GNM, p_GNM, width = standardise(z_GNM), standardise(p_GNM), z_GNM.shape[2]
        own_GM = (z_GNM * p_GNM).sum(1) / (z_GNM.shape[1] - 1)
        all_G = (_gram(z_GNM) * _gram(p_GNM)).sum((1, 2))
        off_G = all_G - own_GM.square().mean(1) / width
        apart_G = (1 - own_GM).square().mean(1)
        return ((apart_G + OFF_DIAGONAL * width * off_G) / (1 + OFF_DIAGONAL * (width - 1))).mean()

    def floor(self, samples: int, width: int, *, twin: bool) -> float | None:
        """C has trace M and a rank of at most N - 1, so Σ C² ≥ M² / min(M, N - 1)."""
        return None if twin else 1 / min(width, samples - 1)


def _gram(z_GNM: Tensor) -> Tensor:
    return z_GNM @ z_GNM.transpose(1, 2) / (z_GNM.shape[2] * (z_GNM.shape[1] - 1))


def form_of(config: DispersiveConfig) -> Form:
    """The form a config names."""
    if config.form == "hinge":
        return Hinge(config.resolved_margin)
    if config.form == "covariance":
        return Covariance()
    temperature = config.resolved[1]
    return Cosine(temperature) if config.form == "infonce-cos" else InfoNCE(temperature)
