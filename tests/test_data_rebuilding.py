"""What is missing beside the tars is made from them; tars that something else wrote are taken over."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from data_fakes import SEVEN, fill, shape_latent, write_split
from webdataset.autodecode import basichandlers

from genmem.data.dataset import Dataset, is_prepared
from genmem.data.errors import DataError
from genmem.data.format.manifest_file import load_manifest
from genmem.data.format.rebuilding import ensure_index
from genmem.data.streaming.shards import ShardSet

TOTAL = sum(SEVEN)
ARRAYS = fill(TOTAL, shape_latent(), 2)

DESCRIPTION: dict[str, Any] = {
    "picture_shape": [8, 8, 1],
    "tokenizer": {"use": "fake", "settings": {"path": "vae.safetensors"}},
    "latent": shape_latent()._asdict(),
    "class_names": [str(digit) for digit in range(10)],
    "encoders": {"near": {"use": "fake", "settings": {}, "state": ""}},
    "source": {"use": "somebody", "settings": {}},
    "provenance": {"licence": "ours"},
}


def test_a_missing_index_is_made_once_and_is_the_same(tmp_path: Path) -> None:
    write_split(tmp_path, SEVEN, views=2)
    before = (tmp_path / "index.npz").read_bytes()
    (tmp_path / "index.npz").unlink()
    shards = ShardSet.open(tmp_path)
    assert (tmp_path / "index.npz").read_bytes() == before
    assert np.array_equal(shards.read("x", np.arange(TOTAL)), ARRAYS["x"])
    stamp = (tmp_path / "index.npz").stat().st_mtime_ns
    ShardSet.open(tmp_path)
    assert (tmp_path / "index.npz").stat().st_mtime_ns == stamp


def test_several_processes_may_miss_it_at_once(tmp_path: Path) -> None:
    write_split(tmp_path, SEVEN)
    manifest = load_manifest(tmp_path)
    (tmp_path / "index.npz").unlink()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=ensure_index, args=(tmp_path, manifest)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}
    assert len(ShardSet.open(tmp_path)) == TOTAL


def test_an_index_is_not_made_from_shards_that_are_damaged(tmp_path: Path) -> None:
    shards = write_split(tmp_path, SEVEN)
    (tmp_path / "index.npz").unlink()
    path = tmp_path / "000004.tar"
    body = bytearray(path.read_bytes())
    body[int(shards.index.fields["x.npy"].offset_N[20]) + 140] ^= 1
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"000004.tar: sha256 \w+, manifest.json says \w+: damaged"):
        ShardSet.open(tmp_path)
    path.write_bytes(body[:-512])
    with pytest.raises(DataError, match=r"000004.tar: \d+ bytes, manifest.json says"):
        ShardSet.open(tmp_path)
    assert not (tmp_path / "index.npz").exists()


def write_foreign(folder: Path, fields: tuple[str, ...] = ("x", "near"), views: int = 2) -> None:
    """Tars as anybody writes them with webdataset, keys and all."""
    for split, numbers in (("train", range(30)), ("test", range(30, 40))):
        (folder / split).mkdir(parents=True)
        with webdataset.ShardWriter(str(folder / split / "part-%03d.tar"), maxcount=8, verbose=0) as writer:
            for n in numbers:
                sample: dict[str, Any] = {"__key__": f"picture_{n}", "cls": n % 10}
                for field in fields:
                    sample[f"{field}.npy"] = ARRAYS[field][n]
                    if views == 2:
                        sample[f"{field}.mirror.npy"] = ARRAYS[f"{field}.mirror"][n]
                writer.write(sample)


def describe(folder: Path, **changes: Any) -> None:
    (folder / "description.json").write_text(json.dumps(DESCRIPTION | changes))


@pytest.mark.parametrize("views", [1, 2])
def test_tars_of_others_are_taken_over(tmp_path: Path, views: int) -> None:
    write_foreign(tmp_path, views=views)
    assert not is_prepared(tmp_path)
    describe(tmp_path)
    assert is_prepared(tmp_path)
    dataset = Dataset(tmp_path)
    assert (dataset.count("train"), dataset.count("test"), dataset.views) == (30, 10, views)
    assert dataset.spec == shape_latent()
    assert dataset.feature_widths == {"near": 2}
    numbers = np.arange(30)
    for view in range(views):
        stored = ARRAYS["x.mirror" if view else "x"][:30]
        assert np.array_equal(dataset.shards("train").read("x", numbers, np.full(30, view)), stored)
    assert dataset.labels("train").tolist() == [n % 10 for n in range(30)]
    assert dataset.provenance()["licence"] == "ours"
    # Taken over once: the description is not looked at again.
    (tmp_path / "description.json").write_text("{")
    assert Dataset(tmp_path).fingerprint() == dataset.fingerprint()


def test_taken_over_or_not_webdataset_reads_them_without_our_files(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    describe(tmp_path)
    Dataset(tmp_path)
    urls = [str(path) for path in sorted((tmp_path / "train").glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode(pre=[], post=[basichandlers]))
    assert np.array_equal(np.stack([sample["x.npy"] for sample in theirs]), ARRAYS["x"][:30])


def test_without_a_description_it_says_what_to_do(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    with pytest.raises(DataError, match=r"train/manifest.json: missing; .* put description.json beside"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "description.json: colour: unknown key"),
        ({"encoders": {}}, "description.json: encoders: the shards hold the feature 'near', and no encoder"),
        ({"class_names": ["a"]}, r"sample 'picture_1': class 1, manifest.json names 1 classes"),
        (
            {"latent": shape_latent(dtype="float32")._asdict()},
            "sample 'picture_0': x.npy: 192 bytes, float32",
        ),
        (
            {"latent": shape_latent((2, 2, 8))._asdict()},
            r"x.npy: the shards hold <f2 \(2, 4, 4\), manifest.json says float16 \(2, 2, 8\)",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_foreign(tmp_path)
    describe(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        Dataset(tmp_path)
    assert not (tmp_path / "train" / "manifest.json").exists()


def test_splits_that_differ_are_refused(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    shutil.rmtree(tmp_path / "test")
    write_foreign(tmp_path / "plain", fields=("x",))
    shutil.move(tmp_path / "plain" / "test", tmp_path / "test")
    describe(tmp_path)
    with pytest.raises(DataError, match="features of train is"):
        Dataset(tmp_path)
