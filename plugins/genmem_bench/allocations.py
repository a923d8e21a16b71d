"""Bytes that a call allocates at its peak, beyond what was there before."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Largest sum of live tensor bytes during the call, beyond those at its start."""
    if device.type == "cuda":
        return _peak_on_cuda(call, device)
    # The profiler announces itself on standard error otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return highest([(e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]"])


def highest(changes: list[tuple[float, int]]) -> int:
    """The highest level that (time, change) pairs reach from 0."""
    level = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        level += change
        peak = max(peak, level)
    return peak


def _peak_on_cuda(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
