"""ruff and mypy find nothing."""

from __future__ import annotations

import subprocess
import sys

from running import ROOT


def find_faults(*words: str) -> str:
    """What a tool says of the tree; empty if it is content."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_nothing():
    assert not find_faults("ruff", "check", "genmem", "plugins", "tests")


def test_the_code_is_formatted():
    assert not find_faults("ruff", "format", "--check", "genmem", "plugins", "tests")


def test_mypy_strict_finds_nothing(tmp_path):
    assert not find_faults("mypy", "--cache-dir", str(tmp_path))
