"""The linear path. Shapes: B batch. Time: t = 0 is data, t = 1 is noise."""

from __future__ import annotations

import torch
from torch import Tensor

from genmem.contracts import Coefficients, Times
from genmem.draws import Draws
from genmem.paths import AffinePath
from genmem_flow.times import TimeLaw


class Linear(AffinePath):
    """α = 1 - t, σ = t (GMem paper, section 2; SiT paper, table 1)."""

    def __init__(self, law: TimeLaw) -> None:
        self._law = law

    def coefficients(self, t: Tensor, /) -> Coefficients:
        """1 - t, t, -1, 1."""
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)

    def times(self, draws: Draws) -> Times:
        """Times by the chosen law."""
        return Times(self._law(draws))
