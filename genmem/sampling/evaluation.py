"""One network evaluation, as a sampler sees it: counted, guided, read by the interpolant.

Shapes: B rows of the batch, C H W sample.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Evaluate, Fields, Guidance, Interpolant, Prediction
from genmem.devices import autocast


class NetworkEvaluation:
    """The `Evaluate` of one batch, or of some of its rows: (x, t, span) -> fields."""

    def __init__(
        self,
        backbone: nn.Module,
        interpolant: Interpolant,
        cond: Conditioning,
        guidance: Guidance | None = None,
        precision: str = "fp32",
    ) -> None:
        """Evaluate `backbone` under `cond`, guided where a guidance is given."""
        self.interpolant = interpolant
        self._backbone = backbone
        self._cond = cond
        self._guidance = guidance
        self._precision = precision
        self._rows_B: Tensor | None = None
        self._evaluated: list[Tensor] = []

    @property
    def calls(self) -> int:
        """Calls of the network so far, whatever the number of rows in each."""
        return len(self._evaluated)

    @property
    def evaluations_B(self) -> Tensor:
        """int64 (B,): network evaluations of each row of the batch so far; a guided one counts two."""
        if not self._evaluated:
            return torch.zeros(0, dtype=torch.int64)
        return torch.cat(self._evaluated).bincount()

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Fields at x (B, C, H, W), t (B,)."""
        cond = self._cond._replace(span_B=span_B)
        output = self._guidance(self._output, x, t_B, cond) if self._guidance else self._output(x, t_B, cond)
        return self.interpolant.fields(output, x, t_B)

    def select(self, rows_B: Tensor, /) -> Evaluate:
        """The same for these rows alone, on the same count."""
        cond = self._cond.take(rows_B)
        part = NetworkEvaluation(self._backbone, self.interpolant, cond, self._guidance, self._precision)
        part._rows_B = rows_B if self._rows_B is None else self._rows_B[rows_B]
        part._evaluated = self._evaluated
        return part

    def _output(self, x: Tensor, t_B: Tensor, cond: Conditioning, rows_B: Tensor | None = None, /) -> Tensor:
        rows_B = torch.arange(len(x), device=x.device) if rows_B is None else rows_B
        self._evaluated.append(rows_B if self._rows_B is None else self._rows_B[rows_B])
        device = next(self._backbone.parameters()).device
        with torch.no_grad(), autocast(device, self._precision):
            prediction = cast(Prediction, self._backbone(x, t_B.to(x.dtype), cond))
        return prediction.output.to(x.dtype)
