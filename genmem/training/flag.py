"""A flag on the device that the host reads a step late, without waiting for what was queued since."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.distributed import DistError

_PAUSE_S = 5e-4


class Flag:
    """A copy of a bool (0-dim) on its way to the host.

    On CUDA the copy and an event are queued where the flag was computed. Asking the event waits for the
    copy alone; reading the tensor would wait for everything queued on its stream, the next step included.
    """

    def __init__(self, value: Tensor) -> None:
        """Send it."""
        self._event: Any = None
        self._value = value.detach()
        if value.is_cuda:
            self._value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self, patience: float | None = None) -> bool:
        """Its value.

        Args:
            patience: Seconds to wait for the device, which waits for other processes; for ever if absent.

        Raises:
            DistError: They were over: a process hangs, or is dead.
        """
        end = None if patience is None else time.monotonic() + patience
        while self._event is not None and not self._event.query():
            if end is not None and time.monotonic() >= end:
                raise DistError(f"Timed out: the device did not come to the end of a step in {patience:g} s")
            time.sleep(_PAUSE_S)
        return bool(self._value)
