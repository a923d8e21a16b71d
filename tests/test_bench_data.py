"""Benchmark `data`: the three forms read the same samples; nothing here depends on how fast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner

from genmem.data.streaming.shards import ShardSet
from genmem.data.streaming.stream import Stream
from genmem_bench import data
from genmem_bench.commands import bench
from genmem_bench.sparse import spread


def test_the_stream_webdataset_and_the_arrays_hold_the_same(tmp_path: Path) -> None:
    arrays, label_N = data.make_arrays(300)
    data.write(tmp_path / "train", arrays, label_N)
    stream = Stream(ShardSet.open(tmp_path / "train"), data.SPEC, seed=0, batch=100)
    parts = [part for step in range(3) for part in stream.batches(step)]
    index = torch.cat([part.index_B for part in parts]).numpy()
    assert sorted(index.tolist()) == list(range(300))
    x = torch.cat([part.x for part in parts]).numpy()
    np.testing.assert_allclose(x, arrays["x"][index].astype(np.float64) * 0.18215, rtol=1e-6)
    feature = torch.cat([part.features["feature"] for part in parts]).numpy()
    assert np.array_equal(feature, arrays["feature"][index].astype(np.float32))
    assert np.array_equal(torch.cat([part.label_B for part in parts]).numpy(), label_N[index])
    urls = [str(path) for path in sorted((tmp_path / "train").glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert np.array_equal(np.stack([sample["x.npy"] for sample in theirs]), arrays["x"])
    for field, values in (arrays | {"cls": label_N}).items():
        np.save(tmp_path / f"{field}.npy", values)
    forms = (
        data.stream_epochs(tmp_path / "train", 64),
        data.webdataset_epochs(tmp_path / "train", 64),
        data.memmap_epochs(tmp_path, 64),
    )
    assert [form() for form in forms] == [256] * 3


def test_sparse_shards_open_and_take_no_room(tmp_path: Path) -> None:
    arrays, label_N = data.make_arrays(50)
    data.write(tmp_path / "model", arrays, label_N)
    spread(tmp_path / "model", tmp_path / "large", 7)
    shards = ShardSet.open(tmp_path / "large")
    assert len(shards) == 350
    assert np.array_equal(shards.labels(np.arange(350)), np.tile(label_N, 7))
    assert not shards.read("x", np.array([0, 349])).any()
    held = sum(path.stat().st_blocks * 512 for path in (tmp_path / "large").glob("*.tar"))
    assert held < sum(path.stat().st_size for path in (tmp_path / "large").glob("*.tar")) / 10


def test_the_command_says_what_it_measured() -> None:
    settings = ["data", "--samples", "200", "--batch", "64", "--rounds", "1", "--shards", "3"]
    result = CliRunner().invoke(bench, [*settings, "--json"], catch_exceptions=False)
    found = json.loads(result.output)
    for ratio, other in (("webdataset_ratio", "webdataset"), ("memmap_share", "memmap")):
        expected = found["samples_per_s"] / found[f"{other}_samples_per_s"]
        assert found[ratio] == pytest.approx(expected, rel=1e-9)
    assert found["startup_s"] > 0 and found["startup_shards"] == 3
    assert {"anon_bytes_growth", "samples", "batch", "rounds"} <= found.keys()
    shown = CliRunner().invoke(bench, settings, catch_exceptions=False).output
    assert "× webdataset" in shown and "3 shards open in" in shown
