"""Benchmark `data`: the trainer's batches beside webdataset's and beside plain arrays in mapped memory.

Shapes: N samples, B samples of a batch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset

from genmem.contracts import LatentSpec
from genmem.data.arrays import write_split
from genmem.data.streaming.shards import ShardSet
from genmem.data.streaming.stream import Stream
from genmem_bench.rounds import interleave, ratio
from genmem_bench.sparse import spread

SPEC = LatentSpec("none", (4, 32, 32), "float16", (0.18215,), (0.0,))
WIDTH = 768
CLASSES = 1000
SHARDS = 1000
"""Of the large set whose start-up is timed."""

SHARD_SIZE = 1000


def make_arrays(samples: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Latents, features and labels (N,), the same every time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, *SPEC.shape), np.float32).astype(np.float16)
    feature = rng.standard_normal((samples, WIDTH), np.float32).astype(np.float16)
    return {"x": x, "feature": feature}, rng.integers(0, CLASSES, samples)


def write(folder: Path, arrays: dict[str, np.ndarray], label_N: np.ndarray) -> None:
    """Write the arrays as a split."""
    names = [str(number) for number in range(CLASSES)]
    write_split(
        folder, arrays, label_N, SPEC, shard_size=SHARD_SIZE, picture_shape=(256, 256, 3), class_names=names
    )


def stream_epochs(folder: Path, batch: int) -> Callable[[], int]:
    """An epoch of the trainer's batches each time it is called; returns the samples seen."""
    stream = Stream(ShardSet.open(folder), SPEC, seed=0, batch=batch)
    steps, done = len(stream.shards) // batch, 0

    def run() -> int:
        nonlocal done
        seen = sum(len(part.x) for step in range(done, done + steps) for part in stream.batches(step))
        done += steps
        return seen

    return run


def webdataset_epochs(folder: Path, batch: int) -> Callable[[], int]:
    """An epoch in the order of the tars, decoded and batched as webdataset's pages show it."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]

    def run() -> int:
        dataset = webdataset.WebDataset(urls, shardshuffle=False).decode()
        batches = dataset.to_tuple("x.npy", "feature.npy", "cls").batched(batch, partial=False)
        return sum(len(torch.from_numpy(x)) for x, _, _ in batches)

    return run


def memmap_epochs(folder: Path, batch: int) -> Callable[[], int]:
    """An epoch in random order out of mapped arrays, by fancy indexing alone."""
    x, feature, label_N = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "feature", "cls"))
    rng = np.random.default_rng(0)

    def run() -> int:
        order, seen = rng.permutation(len(x)), 0
        for start in range(0, len(x) - batch + 1, batch):
            index_B = order[start : start + batch]
            seen += len((x[index_B], feature[index_B], label_N[index_B])[0])
        return seen

    return run


def anonymous_bytes() -> int | None:
    """Memory of this process that no file stands behind; None where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), None)


def measure_growth(epoch: Callable[[], int]) -> int | None:
    """Bytes that an epoch leaves behind, after one that warms up."""
    epoch()
    before = anonymous_bytes()
    epoch()
    after = anonymous_bytes()
    return None if before is None or after is None else after - before


def time_start(folder: Path, batch: int) -> float:
    """Seconds from nothing to the first batch of a set."""
    start = time.perf_counter()
    Stream(ShardSet.open(folder), SPEC, seed=0, batch=batch).batches(0)
    return time.perf_counter() - start


def run(samples: int, batch: int, rounds: int, shards: int = SHARDS) -> dict[str, Any]:
    """The whole benchmark, as one object; one thread throughout."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as name:
            return _measure(Path(name), samples, batch, rounds, shards)
    finally:
        torch.set_num_threads(threads)


def _measure(folder: Path, samples: int, batch: int, rounds: int, shards: int) -> dict[str, Any]:
    arrays, label_N = make_arrays(samples)
    write(folder / "train", arrays, label_N)
    for field, values in (arrays | {"cls": label_N}).items():
        np.save(folder / f"{field}.npy", values)
    few = min(samples, SHARD_SIZE)
    write(folder / "model", {field: values[:few] for field, values in arrays.items()}, label_N[:few])
    spread(folder / "model", folder / "large", shards)
    del arrays
    stream, theirs = stream_epochs(folder / "train", batch), webdataset_epochs(folder / "train", batch)
    mapped = memmap_epochs(folder, batch)
    seen = stream()
    if (theirs(), mapped()) != (seen, seen):
        raise AssertionError("the three do not read the same number of samples")
    timings = interleave({"stream": stream, "webdataset": theirs, "memmap": mapped}, rounds)
    return {
        "benchmark": "data",
        "samples": samples,
        "batch": batch,
        "rounds": rounds,
        "samples_per_s": seen / timings["stream"].least,
        "webdataset_samples_per_s": seen / timings["webdataset"].least,
        "memmap_samples_per_s": seen / timings["memmap"].least,
        "webdataset_ratio": ratio(timings["webdataset"], timings["stream"]),
        "memmap_share": ratio(timings["memmap"], timings["stream"]),
        "spread": timings["stream"].spread,
        "anon_bytes_growth": measure_growth(stream),
        "startup_s": min(time_start(folder / "large", batch) for _ in range(rounds)),
        "startup_shards": shards,
    }
