"""The benchmark of building banks; nothing here depends on how fast anything is."""

from __future__ import annotations

import json
import mmap
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from genmem.contracts import Facts
from genmem.host import load_catalog
from genmem_bench import bank
from genmem_bench.commands import bench

KEYS = {
    "rows",
    "width",
    "rank",
    "build_s",
    "svd_s",
    "svd_rows",
    "build_ratio",
    "error",
    "optimal_error",
    "error_ratio",
    "optimum_ratio",
    "anon_bytes",
    "rows_per_s",
    "ceiling_rows_per_s",
}


@pytest.mark.parametrize("svd_rows", [100_000, 150])
def test_errors_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, svd_rows: int) -> None:
    """With the SVD's where that had all rows, else with the least there can be."""
    monkeypatch.setattr(bank, "SVD_ROWS", svd_rows)
    monkeypatch.setattr(bank, "PART", 128)
    found = bank.run(300, 16, 6, 1, tmp_path)
    assert found.keys() == KEYS and found["svd_rows"] == min(300, svd_rows)
    m = bank.unit(bank.make_features(tmp_path / "features", 300, 16))
    lost = np.linalg.svd(m - m.mean(0), compute_uv=False)[6:]
    assert found["optimal_error"] == pytest.approx(np.sqrt((lost**2).sum()), rel=1e-9)
    assert found["error"] == pytest.approx(found["optimal_error"], rel=1e-5)
    assert found["error_ratio"] == pytest.approx(1, rel=1e-5) and found["optimum_ratio"] >= 1 - 1e-5
    per_row = found["svd_s"] / found["svd_rows"] / (found["build_s"] / 300)
    assert found["build_ratio"] == pytest.approx(per_row)


def test_a_worse_bank_is_noticed(tmp_path: Path) -> None:
    """One of a lower rank; features have a mean and a spectrum that falls."""
    dataset = bank.Rows(tmp_path, bank.make_features(tmp_path / "features", 2000, 16))
    config = load_catalog().find("memory", "svd-bank").config
    worse = config(path=str(tmp_path / "b"), encoder="x", rank=5, mask="none", normalise=False)
    worse.prepare(dataset)
    store = worse.build(Facts(sample_shape=(1, 2, 2), output_channels=1))
    assert bank.error_of(store, dataset) > 1.02 * bank.optimal_error(dataset, 6)
    values = np.linalg.eigvalsh(np.cov(np.array(dataset.rows_NE, np.float64).T))[::-1]
    np.testing.assert_allclose(values, 1 / (1 + np.arange(16)), rtol=0.15)
    assert 0.5 < np.linalg.norm(np.array(dataset.rows_NE, np.float64).mean(0)) < 2


def test_memory_is_measured_at_its_peak() -> None:
    """What is given back before the end counts. (Pages of one's own: a heap may have them already.)"""
    size = 80_000_000
    with bank.peak_of_anonymous_bytes(every=0.001) as peak:
        held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held.write(b"1" * size)
        before = time.monotonic()
        while (peak() or 0) < 70e6 and peak() is not None and time.monotonic() < before + 20:
            time.sleep(0.001)
        held.close()
    found = peak()
    assert found is None or 70e6 <= found < 300e6


def test_the_command() -> None:
    """In words, and as JSON."""
    options = ["bank", "--rows", "200", "--width", "8", "--rank", "3", "--rounds", "1"]
    shown = CliRunner().invoke(bench, options)
    assert shown.exit_code == 0 and "200 rows of width 8 at rank 3" in shown.output, shown.output
    found = json.loads(CliRunner().invoke(bench, [*options, "--json"]).output)
    assert found.keys() == KEYS
