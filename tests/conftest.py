"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Tests run on all cores at once; processes that they start must not each take every core.
os.environ["OMP_NUM_THREADS"] = "1"

# How fast a machine is decides no test.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the digits and their bank are prepared once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(1)
