"""A trace holds the steps that were asked for, and a memory timeline that adds up."""

from __future__ import annotations

import json

import pytest
import torch

from genmem.training.trace import WARM_UP, Trace, timeline

MEBIBYTE = 1 << 20


def trace_steps(folder, steps: int, taken: int) -> list[tuple[str, int]]:
    """Steps that each multiply two matrices; in the second that is traced, a mebibyte is kept."""
    said: list[tuple[str, int]] = []
    kept = []
    square = torch.ones(64, 64)
    with Trace(steps, folder, torch.device("cpu"), lambda *words: said.append(words)) as trace:
        for step in range(taken):
            square @ square
            if step == WARM_UP + 1:
                kept.append(torch.zeros(MEBIBYTE // 4))
            trace.step(64 * (step + 1))
    return said


def test_the_steps_asked_for_and_no_others_are_in_it(tmp_path):
    (said,) = trace_steps(tmp_path / "traces", steps=4, taken=WARM_UP + 9)
    name = f"{64 * (WARM_UP + 4):012d}"
    assert said[1] == 64 * (WARM_UP + 4) and f"steps-{name}.json" in said[0]
    found = json.loads((tmp_path / "traces" / f"steps-{name}.json").read_text())
    assert len([event for event in found["traceEvents"] if event.get("name") == "aten::matmul"]) == 4


def test_memory_that_is_kept_is_seen_at_the_end(tmp_path):
    trace_steps(tmp_path / "traces", steps=4, taken=WARM_UP + 4)
    (file,) = (tmp_path / "traces").glob("memory-*.json")
    memory = json.loads(file.read_text())
    product = 64 * 64 * 4
    assert memory["points"][-1][1] == MEBIBYTE
    assert memory["peak"] == MEBIBYTE + product
    moments = [moment for moment, _ in memory["points"]]
    assert moments == sorted(moments) and moments[0] == 0


def test_a_run_too_short_to_trace_says_so(tmp_path):
    said = trace_steps(tmp_path / "traces", steps=4, taken=WARM_UP + 2)
    assert said == [(f"nothing was traced: that takes {WARM_UP + 4} steps, there were 5", 64 * 5)]
    assert not list((tmp_path / "traces").glob("*"))


def test_a_device_the_profiler_does_not_see_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"train.trace: .* of mps; leave train.trace out"):
        Trace(2, tmp_path, torch.device("mps"), print)
    Trace(None, tmp_path, torch.device("mps"), print)


def test_only_memory_of_the_cpu_is_counted():
    def event(moment: float, size: int, device: int = 0) -> dict:
        return {"name": "[memory]", "ts": moment, "args": {"Bytes": size, "Device Type": device}}

    events = [event(7.0, -30), event(5.0, 100), {"name": "aten::mm", "ts": 5.5}, event(6.0, 9, device=1)]
    assert timeline({"traceEvents": events}) == {
        "unit": ["us", "bytes"],
        "peak": 100,
        "points": [[0.0, 100], [2.0, 70]],
    }


def test_on_cuda_the_allocator_is_recorded_over_the_traced_steps_alone(tmp_path, monkeypatch):
    """The order of the calls, on a machine without a device; `pytest -m gpu` has the device's own."""
    calls: list[object] = []
    memory = torch.cuda.memory

    class Fake:
        def __init__(self, activities, profile_memory):
            calls.append(len(activities))

        start = stop = export_chrome_trace = lambda self, *_: None

    monkeypatch.setattr("genmem.training.trace.profile", Fake)
    monkeypatch.setattr(memory, "_record_memory_history", lambda **kw: calls.append(kw.get("enabled", "on")))
    monkeypatch.setattr(memory, "_dump_snapshot", lambda path: calls.append(path))
    with Trace(2, tmp_path / "traces", torch.device("cuda"), lambda *words: calls.append("told")) as trace:
        for step in range(WARM_UP + 4):
            trace.step(step)
            calls.append(step)
    snapshot = str(tmp_path / "traces" / f"memory-{WARM_UP + 1:012d}.pickle")
    assert calls == [0, 1, "on", 2, 2, 3, snapshot, None, "told", 4, 5, 6]


@pytest.mark.gpu
def test_on_cuda_kernels_and_a_snapshot_are_written(tmp_path):
    device = torch.device("cuda")
    square = torch.ones(64, 64, device=device)
    with Trace(2, tmp_path / "traces", device, lambda *words: None) as trace:
        for step in range(WARM_UP + 2):
            square @ square
            trace.step(step)
    (steps,) = (tmp_path / "traces").glob("steps-*.json")
    events = json.loads(steps.read_text())["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)
    (snapshot,) = (tmp_path / "traces").glob("memory-*.pickle")
    assert snapshot.stat().st_size > 0
