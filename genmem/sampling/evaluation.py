"""One network evaluation, as a sampler sees it: counted, guided, read by the interpolant."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Fields, Guidance, Interpolant, Prediction
from genmem.devices import autocast


class NetworkEvaluation:
    """The `Evaluate` of one batch: (x, t, span) -> fields. `calls` counts network evaluations."""

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
        self.calls = 0
        self._backbone = backbone
        self._cond = cond
        self._guidance = guidance
        self._precision = precision

    def __call__(self, x: Tensor, t_B: Tensor, span_B: Tensor | None = None, /) -> Fields:
        """Fields at x (B, C, H, W), t (B,)."""
        cond = self._cond._replace(span_B=span_B)
        output = self._guidance(self._output, x, t_B, cond) if self._guidance else self._output(x, t_B, cond)
        return self.interpolant.fields(output, x, t_B)

    def _output(self, x: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        self.calls += 1
        device = next(self._backbone.parameters()).device
        with torch.no_grad(), autocast(device, self._precision):
            prediction = cast(Prediction, self._backbone(x, t_B.to(x.dtype), cond))
        return prediction.output.to(x.dtype)
