"""Two processes hold what one holds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("ranks.py")


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """[17, 18, 20] The queue's contents on every rank, and the in-batch term's averaged gradient."""
    commands = [[sys.executable, str(SCRIPT), str(rank), "2", str(tmp_path)] for rank in (0, 1)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    failures = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], failures
    spec = importlib.util.spec_from_file_location("ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    alone = script.train(0, 1)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name in ("rows", "ids", "total", "rejected"):
            assert torch.equal(together[name], alone[name]), name
        torch.testing.assert_close(together["gradient"], alone["gradient"], rtol=1e-12, atol=1e-12)
    assert alone["ids"].tolist() == [*range(3, 16), *range(24, 40)][-21:]
