"""Grids of times from noise to data, in Python floats: double precision on every device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genmem.contracts import TimeRange


def shift_time(u: float, shift: float) -> float:
    """u / (s + (1 - s) u): in τ = 1 - t this is LightningDiT's s τ / (1 + (s - 1) τ)."""
    return u / (shift + (1.0 - shift) * u)


def space_times(steps: int, shift: float = 1.0, end: float = 0.0, start: float = 1.0) -> tuple[float, ...]:
    """steps + 1 times from exactly `start` to exactly `end`.

    The shift warps the unit interval; what comes out is then laid over [end, start].
    """
    warped = (shift_time(1.0 - i / steps, shift) for i in range(1, steps))
    return (start, *(end + (start - end) * u for u in warped), end)


class Grid(NamedTuple):
    """A number of steps and their shift, before it is known between which times."""

    steps: int
    shift: float = 1.0

    def over(self, limits: TimeRange) -> tuple[float, ...]:
        """steps + 1 times from the noise end to the data end of what may be asked."""
        return space_times(self.steps, self.shift, limits.low, limits.high)

    def visits(self, limits: TimeRange) -> tuple[float, ...]:
        """`steps` times to ask at, for a sampler whose last step leaps to the data.

        Where the process knows whole steps alone: evenly respaced ones, first and last included.

        Raises:
            ValueError: More than the process has, or a shift so strong that some coincide; or the last of
                them is nearer to the data than it may be asked.
        """
        if limits.steps is None:
            times = space_times(self.steps, self.shift, 0.0, limits.high)[:-1]
            if times[-1] < limits.low:
                raise ValueError(
                    f"{self.steps} sampling steps at shift {self.shift} ask at t = {times[-1]:.2g}, and the "
                    f"process may be asked down to {limits.low:g}; take fewer steps"
                )
            return times
        last, most = limits.steps - 1, max(self.steps - 1, 1)
        warped = (shift_time(1.0 - i / most, self.shift) for i in range(self.steps))
        kept = [round(last * u) for u in warped]
        if len(set(kept)) < self.steps:
            raise ValueError(
                f"{self.steps} sampling steps at shift {self.shift} do not fall on different ones of the "
                f"process's {limits.steps}; take fewer steps, or a shift nearer to 1"
            )
        return tuple(limits.low + (limits.high - limits.low) * k / last for k in kept)


def fill_time(t: float, x: Tensor) -> Tensor:
    """The same time for every row of x: (B,), in x's dtype."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)
