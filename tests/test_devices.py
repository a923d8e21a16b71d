"""One policy for fp32, in one place."""

from __future__ import annotations

import re

import pytest
import torch
from running import ROOT

from genmem.devices import fp32_in_use, resolve

SWITCHES = r"fp32_precision|allow_tf32|float32_matmul_precision|TF32_OVERRIDE"


def test_fp32_is_fp32_on_every_backend_once_a_device_is_chosen():
    backends = torch.backends
    parts = (
        backends.cuda.matmul,
        backends.cudnn,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.rnn,
    )
    for part in (backends, *parts):  # one by one, as a library may have
        part.fp32_precision = "tf32"
    assert {part.fp32_precision for part in parts} == {"tf32"}
    resolve("cpu")
    assert {part.fp32_precision for part in (backends, *parts)} == {"ieee"}
    assert fp32_in_use() == "ieee"
    # What torch itself reads while it compiles must agree, or it raises.
    assert torch.get_float32_matmul_precision() == "highest"


def test_nothing_else_touches_the_switches():
    files = [file for part in ("genmem", "plugins", "tests") for file in (ROOT / part).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in files if re.search(SWITCHES, file.read_text())}
    assert found == {"genmem/devices.py", "tests/test_devices.py"}


def test_a_gpu_by_number_is_the_one_in_use_and_of_several_processes_refused(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert resolve("cuda:1") == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
    assert resolve("cuda") == torch.device("cuda") and len(chosen) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match='say "cuda", and CUDA_VISIBLE_DEVICES'):
        resolve("cuda:1")
