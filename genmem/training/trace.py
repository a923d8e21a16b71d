"""A look at a few steps through torch's profiler: every operator, and every allocation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile

from genmem import collectives

WARM_UP = 3
"""Steps before the first that is traced; they load kernels and fill caches."""

HISTORY = 1_000_000
"""Allocations that a snapshot of a CUDA device goes back."""


class Trace:
    """Traces some steps of the first process, once, and writes what it saw into a folder."""

    def __init__(
        self, steps: int | None, folder: Path, device: torch.device, tell: Callable[[str, int], None]
    ) -> None:
        """A trace of `steps` steps, none where that is None.

        Raises:
            ValueError: A device whose work torch's profiler does not see.
        """
        if steps and device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"train.trace: torch's profiler sees neither the kernels nor the memory of {device.type}; "
                "leave train.trace out, or trace on cpu or cuda"
            )
        self.steps = steps if collectives.rank() == 0 else None
        self.folder, self.device, self._tell = folder, device, tell
        self._taken = self._images_seen = 0
        self._profile: Any = None

    def step(self, images_seen: int) -> None:
        """A step is done, after which so many images are seen."""
        if not self.steps:
            return
        self._taken, self._images_seen = self._taken + 1, images_seen
        if self._taken == WARM_UP:
            self._begin()
        elif self._taken == WARM_UP + self.steps:
            self._finish(images_seen)

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.memory._record_memory_history(max_entries=HISTORY, device=self.device)
        self._profile = profile(activities=activities, profile_memory=True)
        self._profile.start()

    def _finish(self, images_seen: int) -> None:
        self._profile.stop()
        name = f"{images_seen:012d}"
        self.folder.mkdir(exist_ok=True)
        trace = self.folder / f"steps-{name}.json"
        self._profile.export_chrome_trace(str(trace))
        self._profile = None
        if self.device.type == "cuda":
            memory = self.folder / f"memory-{name}.pickle"
            torch.cuda.memory._dump_snapshot(str(memory))  # type: ignore[no-untyped-call]
            torch.cuda.memory._record_memory_history(enabled=None, device=self.device)
        else:
            memory = self.folder / f"memory-{name}.json"
            memory.write_text(json.dumps(timeline(json.loads(trace.read_text()))))
        self._tell(f"traced {self.steps} steps: {trace}, {memory}", images_seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A run that ends too early has traced nothing, and says so."""
        if self._profile is not None:
            self._profile.stop()
        if self.steps and self._taken < WARM_UP + self.steps:
            wanted = WARM_UP + self.steps
            why = f"nothing was traced: that takes {wanted} steps, there were {self._taken}"
            self._tell(why, self._images_seen)


def timeline(trace: dict[str, Any]) -> dict[str, Any]:
    """The CPU's memory over the steps, from a trace with memory: microseconds, and bytes above the start.

    Returns:
        `points` [[microseconds, bytes]], one an allocation or release, and the `peak` in bytes.
    """
    events = [event for event in trace["traceEvents"] if event.get("name") == "[memory]"]
    on_cpu = [event for event in events if event["args"]["Device Type"] == 0]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in sorted(on_cpu, key=lambda one: one["ts"])]
    now, points = 0, []
    for moment, change in changes:
        now += change
        points.append([moment - changes[0][0], now])
    return {"unit": ["us", "bytes"], "peak": max((size for _, size in points), default=0), "points": points}
