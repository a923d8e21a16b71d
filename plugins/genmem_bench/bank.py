"""Building a low-rank bank, beside the singular value decomposition one would write first.

Features are made up, with a mean and a falling spectrum, and lie on disk in fp16.
Shapes: N rows of a part, E width, R rank.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genmem.contracts import Facts, MemoryConfig, MemoryStore, Split
from genmem.host import load_catalog
from genmem_bench.data import anonymous_bytes
from genmem_bench.rounds import interleave

PART = 8192
SVD_ROWS = 100_000
"""Rows that the compared decomposition is given at most; it holds all of them in memory, twice."""

FEATURE = "made-up"


@attrs.frozen
class Rows:
    """A `DatasetFolder` over an array on disk."""

    path: Path
    rows_NE: np.ndarray
    views: int = 1

    def count(self, split: Split) -> int:
        """Samples."""
        return len(self.rows_NE)

    def labels(self, split: Split) -> np.ndarray:
        """There are none."""
        return np.full(len(self.rows_NE), -1)

    def feature(self, split: Split, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """(stop - start, E) float32."""
        part_NE: np.ndarray = torch.from_numpy(self.rows_NE[start:stop]).float().numpy()
        return part_NE

    def provenance(self) -> dict[str, Any]:
        """Nothing to speak of."""
        return {"source": "made up"}


def run(rows: int, width: int, rank: int, rounds: int, folder: Path | None = None) -> dict[str, Any]:
    """Make features, build a bank of them, read it back, and do the same by torch's SVD.

    Args:
        rows: N.
        width: E.
        rank: R.
        rounds: Rounds of reading that count.
        folder: For the files, which take rows · (2 E + 4 R) bytes; a temporary one if absent.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        dataset = Rows(Path(name), make_features(Path(name) / "features", rows, width))
        config = load_catalog().find("memory", "svd-bank").config
        bank: MemoryConfig = config(
            path=f"{name}/bank", encoder=FEATURE, rank=rank, mask="none", normalise=False
        )
        start = time.perf_counter()
        with peak_of_anonymous_bytes() as peak:
            bank.prepare(dataset)
        build_s = time.perf_counter() - start
        store = bank.build(Facts(sample_shape=(1, 2, 2), output_channels=1))
        error, optimum = error_of(store, dataset), optimal_error(dataset, rank)
        svd_s, svd_error = decompose_at_once(unit(dataset.rows_NE[:SVD_ROWS]), rank)
        compared = min(rows, SVD_ROWS)
        timings = interleave(reading(store, rank), rounds)
        read = {name: PART / timing.least for name, timing in timings.items()}
    return {
        "rows": rows,
        "width": width,
        "rank": rank,
        "build_s": build_s,
        "svd_s": svd_s,
        "svd_rows": compared,
        "build_ratio": svd_s / compared * rows / build_s,
        "error": error,
        "optimal_error": optimum,
        "error_ratio": error / (svd_error if compared == rows else optimum),
        "optimum_ratio": error / optimum,
        "anon_bytes": peak(),
        "rows_per_s": read["rows"],
        "ceiling_rows_per_s": read["product"],
    }


def make_features(path: Path, rows: int, width: int) -> np.ndarray:
    """(rows, E) fp16 on disk: a mean, and directions of which number j varies as 1 / √(1 + j)."""
    draws = np.random.default_rng(0)
    rotation_EE, _ = np.linalg.qr(draws.normal(size=(width, width)))
    spread_EE = (rotation_EE / np.sqrt(1 + np.arange(width))).T.astype(np.float32)
    mean_E = draws.normal(size=width).astype(np.float32) / np.sqrt(width, dtype=np.float32)
    features_NE = np.memmap(path, np.float16, "w+", shape=(rows, width))
    for start in range(0, rows, PART):
        part_NE = draws.standard_normal((min(PART, rows - start), width), np.float32) @ spread_EE
        features_NE[start : start + PART] = part_NE + mean_E
    features_NE.flush()
    return features_NE


def unit(rows_NE: np.ndarray) -> np.ndarray:
    """Rows brought to norm 1, float64."""
    rows_NE = rows_NE.astype(np.float64)
    return np.asarray(rows_NE / np.linalg.norm(rows_NE, axis=1, keepdims=True))


def parts(dataset: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Unit rows, some at a time, and the number of the first."""
    for start in range(0, len(dataset.rows_NE), PART):
        yield start, unit(dataset.rows_NE[start : start + PART])


def error_of(store: MemoryStore, dataset: Rows) -> float:
    """Root of Σ ‖row - row in the bank‖², over all rows, as they are read back."""
    squared = 0.0
    for start, rows_NE in parts(dataset):
        found_NE = store.rows(torch.arange(start, start + len(rows_NE)))[:, 0].double().numpy()
        squared += float(np.square(rows_NE - found_NE).sum())
    return float(np.sqrt(squared))


def optimal_error(dataset: Rows, rank: int) -> float:
    """The same of the best bank there is: the eigenvalues of the covariance that a rank leaves out."""
    width = dataset.rows_NE.shape[1]
    sum_E, square_EE = np.zeros(width), np.zeros((width, width))
    for _, rows_NE in parts(dataset):
        sum_E += rows_NE.sum(0)
        square_EE += rows_NE.T @ rows_NE
    scatter_EE = square_EE - np.outer(sum_E, sum_E) / len(dataset.rows_NE)
    return float(np.sqrt(np.linalg.eigvalsh(scatter_EE)[: width - rank].clip(min=0).sum()))


def decompose_at_once(rows_NE: np.ndarray, rank: int) -> tuple[float, float]:
    """Seconds of torch's SVD in fp32, and the error of the bank that follows from it."""
    centred_NE = torch.from_numpy((rows_NE - rows_NE.mean(0)).astype(np.float32))
    start = time.perf_counter()
    u_NK, singular_K, vt_KE = torch.linalg.svd(centred_NE, full_matrices=False)
    seconds = time.perf_counter() - start
    lost_NE = centred_NE - (u_NK[:, :rank] * singular_K[:rank]) @ vt_KE[:rank]
    return seconds, float(lost_NE.square().sum(dtype=torch.float64).sqrt())


def reading(store: MemoryStore, rank: int) -> dict[str, Callable[[], object]]:
    """Rows of a bank, and the matrix product that they cannot do without."""
    number_N = torch.randint(store.num_rows, (PART,), generator=torch.Generator().manual_seed(0))
    left_NR, right_RE = torch.ones(PART, rank), torch.ones(rank, store.width)
    return {"rows": lambda: store.rows(number_N), "product": lambda: left_NR @ right_RE}


@contextmanager
def peak_of_anonymous_bytes(every: float = 0.005) -> Iterator[Callable[[], int | None]]:
    """Bytes that no file stands behind, at their peak in this context, beyond those at its start."""
    before, done, highest = anonymous_bytes(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(every):
            highest[0] = max(highest[0], (anonymous_bytes() or 0) - (before or 0))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: None if before is None else highest[0]
    finally:
        done.set()
        watcher.join()
