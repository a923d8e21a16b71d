"""Mean and covariance in float64, streamed and merged without loss.

Shapes: B rows in a batch, D width of the feature space.
Merging is the pairwise form of Chan, Golub and LeVeque (1983), so a large common offset of the
features costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genmem.scoring.features import Features, read_features

_ASYMMETRY = 1e-5
"""Share of the largest entry by which a covariance kept in float32 may differ from its transpose."""


@attrs.frozen(eq=False)
class Statistics:
    """Mean and covariance that come from elsewhere, a file say; how many rows they are of may be unknown."""

    mean_D: Tensor
    """float64."""

    covariance_DD: Tensor
    count: int | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what is no mean and covariance."""
        shapes = tuple(self.mean_D.shape), tuple(self.covariance_DD.shape)
        if self.mean_D.ndim != 1 or shapes[1] != (*shapes[0], *shapes[0]):
            raise ValueError(
                f"a mean (D,) and a covariance (D, D) are expected, got {shapes[0]} and {shapes[1]}"
            )
        if not (self.mean_D.isfinite().all() and self.covariance_DD.isfinite().all()):
            raise ValueError("statistics are not finite")
        apart = (self.covariance_DD - self.covariance_DD.T).abs().max() if len(self.mean_D) else 0.0
        if apart > _ASYMMETRY * self.covariance_DD.abs().max():
            raise ValueError(f"the covariance is not symmetric: entries differ by up to {float(apart):.3g}")

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean_D)

    def covariance(self) -> Tensor:
        """(D, D)."""
        return self.covariance_DD


@attrs.define(eq=False)
class Moments:
    """First and second moments of a set of feature rows."""

    count: int
    """Rows seen."""

    mean_D: Tensor
    """Their mean, float64."""

    m2_DD: Tensor
    """Σ (f - mean)(f - mean)ᵀ, float64: the covariance times count - 1."""

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> Moments:
        """Moments of no rows."""
        zeros = torch.zeros(width + 1, width, dtype=torch.float64, device=device)
        return cls(0, zeros[0].clone(), zeros[1:].clone())

    @classmethod
    def of(cls, features_ND: Features, *, name: str = "features") -> Moments:
        """Moments of one array.

        Raises:
            TypeError, ValueError: As `update`.
        """
        rows = read_features(name, features_ND)
        moments = cls.empty(rows.shape[1], rows.device)
        moments.update(rows, name=name)
        return moments

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean_D)

    def update(self, features_BD: Features, *, name: str = "features") -> None:
        """Take in more rows; none is allowed.

        Raises:
            TypeError: Not floating-point.
            ValueError: Not (B, D), another width, or a value that is not finite. Nothing has
                been taken in then.
        """
        rows = read_features(name, features_BD, width=self.width, least=0)
        if not len(rows):
            return
        mean_D = rows.mean(0)
        self._shift(len(rows), mean_D)
        centred = rows - mean_D
        self.m2_DD.addmm_(centred.T, centred)

    def merged(self, other: Moments) -> Moments:
        """Moments of both sets of rows; neither is changed.

        Raises:
            ValueError: Another width.
        """
        if other.width != self.width:
            raise ValueError(f"moments of width {other.width} cannot be merged into width {self.width}")
        both = Moments(self.count, self.mean_D.clone(), self.m2_DD.clone())
        if other.count:
            both._shift(other.count, other.mean_D)
            both.m2_DD += other.m2_DD
        return both

    def reduced(self, add: Callable[[Tensor], Tensor]) -> Moments:
        """Moments of the rows of all ranks, the same on each.

        Args:
            add: Sums a tensor over the ranks; called three times by every rank, also by one
                that has no rows.
        """
        count = round(add(self.mean_D.new_tensor(float(self.count))).item())
        mean_D = add(self.mean_D * self.count) / max(count, 1)
        delta_D = self.mean_D - mean_D
        return Moments(count, mean_D, add(self.m2_DD + self.count * torch.outer(delta_D, delta_D)))

    def covariance(self) -> Tensor:
        """(D, D) sample covariance, divided by count - 1.

        Raises:
            ValueError: Fewer than two rows, or moments that are not finite.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.count}")
        if not (self.mean_D.isfinite().all() and self.m2_DD.isfinite().all()):
            raise ValueError("moments are not finite")
        return self.m2_DD / (self.count - 1)

    def _shift(self, count: int, mean_D: Tensor) -> None:
        """Account for `count` more rows with this mean, but for their scatter about it."""
        total = self.count + count
        delta_D = mean_D - self.mean_D
        self.m2_DD.addr_(delta_D, delta_D, alpha=self.count * count / total)
        self.mean_D += delta_D * (count / total)
        self.count = total
