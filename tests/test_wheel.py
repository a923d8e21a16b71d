"""A wheel built from the tree works away from the checkout, plugins, recipes and data included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, SMALL


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel installed into it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *options, "--target", folder / "site", wheel], check=True)
    return folder / "site"


def genmem(installed: Path, cwd: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "genmem", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_that_answers(installed, tmp_path):
    code = "import genmem, genmem_digits; print(genmem.__file__, genmem_digits.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.count(str(installed)) == 2, done.stdout


def test_shipped_recipes_are_found_by_name_and_train(installed, tmp_path):
    assert "quickstart" in genmem(installed, tmp_path, "recipe", "list")
    assert "quickstart" in genmem(installed, tmp_path, "check", "quickstart")
    output = genmem(installed, tmp_path, "train", "quickstart", *SMALL, "--train.images=64")
    assert "Gaussian" in output
    assert (tmp_path / "runs" / "quickstart" / "samples" / "final-ema.png").exists()
    assert (tmp_path / "data" / "digits" / "train" / "manifest.json").exists()
