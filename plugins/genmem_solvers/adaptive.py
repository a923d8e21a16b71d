"""Dormand and Prince's method of order 5(4) with a step size of its own for every sample.

A sample's steps depend on its own error alone, so it does not matter what else is in the batch.
All samples that are still under way share one network call. Where a step ends, its last stage is the
first of the next ("first same as last"), so an accepted step costs six evaluations, a rejected one too.
Nothing is asked beyond the last time: the final step ends on it.
Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section II.4, is followed for
the controller and for the first step.

Shapes: B rows of the batch, A rows still under way, x (A, C, H, W), each time and size (A,).
"""

from __future__ import annotations

from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from genmem.contracts import Evaluate
from genmem.draws import Draws
from genmem.paths import spread

# Dormand and Prince 1980, table 2.
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# Shampine's companion of order 4 (Math. Comp. 46, 1986), as in torchdiffeq: published samples used it.
FOURTH = (1951 / 21600, 0.0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60)
ERROR = tuple(fifth - fourth for fifth, fourth in zip((*STAGES[-1], 0.0), FOURTH, strict=True))

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


class Front(NamedTuple):
    """Where the samples still under way are."""

    rows: Tensor
    """int64: which rows of the batch."""

    t: Tensor
    """float64."""

    size: Tensor
    """float64, above 0: length of the next step."""

    x: Tensor
    v: Tensor
    """Velocity at (x, t)."""

    def keep(self, chosen: Tensor) -> Front:
        """Those chosen."""
        return Front(*(part[chosen] for part in self))


@attrs.frozen(kw_only=True)
class DormandPrince:
    """From the noise end to the data end of what may be asked, within a tolerance."""

    rtol: float
    atol: float
    max_steps: int

    def __call__(self, evaluate: Evaluate, x: Tensor, draws: Draws, /) -> Tensor:
        """Integrate x; draws nothing.

        Raises:
            RuntimeError: A sample that is not there after `max_steps` attempted steps.
        """
        end, start, _ = evaluate.interpolant.limits()
        out = x.clone()
        front = self._begin(evaluate, x, start, end)
        for _ in range(self.max_steps):
            x_new, v_new, error = self._try(evaluate.select(front.rows), front)
            accepted = error <= 1.0
            arrived = accepted & (front.size >= front.t - end)
            out[front.rows[arrived]] = x_new[arrived]
            front = _step(front, x_new, v_new, error, end).keep(~arrived)
            if len(front.rows) == 0:
                return out
        raise RuntimeError(
            f"{len(front.rows)} samples are not at t = {end} after {self.max_steps} steps, the first at "
            f"t = {front.t[0]:.4g} with steps of {front.size[0]:.2g}; raise rtol, atol or max_steps"
        )

    def _begin(self, evaluate: Evaluate, x: Tensor, start: float, end: float) -> Front:
        """The first step: from the sizes of x, of v, and of v's change over a small Euler step."""
        rows = torch.arange(len(x), device=x.device)
        t = torch.full((len(x),), start, dtype=torch.float64, device=x.device)
        v = _ask(evaluate, x, t)
        scale = self.atol + self.rtol * x.abs()
        size_x, size_v = _norm(x / scale), _norm(v / scale)
        small = (size_x < 1e-5) | (size_v < 1e-5)
        first = torch.where(small, 1e-6, 0.01 * size_x / size_v.clamp_min(1e-30)).clamp_max(start - end)
        moved = _ask(evaluate, x - _wide(first, x) * v, t - first)
        bend = _norm((moved - v) / scale) / first
        most = torch.maximum(size_v, bend)
        second = torch.where(
            most <= 1e-15, (first * 1e-3).clamp_min(1e-6), (0.01 / most.clamp_min(1e-30)) ** 0.2
        )
        return Front(rows, t, torch.minimum(100 * first, second).clamp_max(start - end), x, v)

    def _try(self, evaluate: Evaluate, at: Front) -> tuple[Tensor, Tensor, Tensor]:
        """x and v one step on, and the error of x in units of the tolerance."""
        slopes, x_new = [at.v], at.x
        for node, row in zip(NODES, STAGES, strict=True):
            x_new = at.x - _wide(at.size, at.x) * _mix(row, slopes)
            slopes.append(_ask(evaluate, x_new, at.t - node * at.size))
        scale = self.atol + self.rtol * torch.maximum(at.x.abs(), x_new.abs())
        return x_new, slopes[-1], _norm(_wide(at.size, at.x) * _mix(ERROR, slopes) / scale)


def _step(front: Front, x_new: Tensor, v_new: Tensor, error: Tensor, end: float) -> Front:
    """Rows whose error is small enough move on; every row's next step follows from its error."""
    accepted = error <= 1.0
    wide = spread(accepted, front.x)
    factor = (SAFETY * error.clamp_min(1e-30) ** -0.2).nan_to_num(SHRINK).clamp(SHRINK, GROW)
    factor = torch.where(accepted, factor.clamp_min(1.0), factor)
    t = torch.where(accepted, front.t - front.size, front.t)
    size = torch.minimum(front.size * factor, (t - end).clamp_min(0.0))
    return Front(front.rows, t, size, torch.where(wide, x_new, front.x), torch.where(wide, v_new, front.v))


def _ask(evaluate: Evaluate, x: Tensor, t: Tensor) -> Tensor:
    return evaluate(x, t.to(x.dtype)).velocity


def _mix(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), start=torch.zeros_like(slopes[0]))


def _wide(size: Tensor, x: Tensor) -> Tensor:
    return spread(size, x).to(x.dtype)


def _norm(x: Tensor) -> Tensor:
    """Root mean square of each row, float64."""
    return x.double().square().flatten(1).mean(1).sqrt()
