"""Sampling by number: the same picture however it is batched, shared out, interrupted or written."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from running import QUICKSTART, SMALL, small_recipe, trainer_of

import genmem
from genmem.sampling.session import Job, sample
from genmem.training import session
from genmem.training.launch import spawn


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A short label-conditioned run, made in this process."""
    folder = tmp_path_factory.mktemp("sampling")
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    more = ("--train.images=64", "--condition.label=true", "--evaluate.batch=8", "--sampler.steps=3")
    session.run(str(QUICKSTART), (*paths, *SMALL, *more), (), folder / "run", [])
    return folder / "run"


def job(run: Path, out: Path, **changes) -> Job:
    base = Job(run=run, num=20, seed=1, weights=None, out=out, form="png", labels="uniform", plugins=())
    return attrs.evolve(base, **changes)


def pngs(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("0*.png"))])


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("whole")
    sample(job(run, out))
    return pngs(out)


def test_two_processes_write_the_same_pictures_bit_for_bit(run, whole, tmp_path):
    spawn(sample, (job(run, tmp_path),), 2)
    assert np.array_equal(pngs(tmp_path), whole)


def test_an_interrupted_job_goes_on_by_number(run, whole, tmp_path):
    sample(job(run, tmp_path))
    for number in (3, 4, 17):
        (tmp_path / f"{number:06d}.png").unlink()
    untouched = (tmp_path / "000012.png").stat().st_mtime_ns
    sample(job(run, tmp_path))
    assert np.array_equal(pngs(tmp_path), whole)
    assert (tmp_path / "000012.png").stat().st_mtime_ns == untouched


def test_a_job_may_grow(run, whole, tmp_path):
    sample(job(run, tmp_path, num=9))
    sample(job(run, tmp_path))
    assert np.array_equal(pngs(tmp_path), whole)


def test_npz_is_what_adm_reads(run, whole, tmp_path):
    sample(job(run, tmp_path, form="npz"))
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["arr_0"].dtype == np.uint8 and archive["arr_0"].shape == (20, 8, 8, 3)
        for channel in range(3):
            assert np.array_equal(archive["arr_0"][..., channel], whole)


def test_shards_are_what_webdataset_reads(run, whole, tmp_path):
    sample(job(run, tmp_path, form="tar"))
    shards = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    assert len(shards) == 3
    found = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [json.loads(one["json"])["index"] for one in found] == list(range(20))
    assert all({"label", "row"} <= json.loads(one["json"]).keys() for one in found)
    pictures = [np.array(Image.open(io.BytesIO(one["png"]))) for one in found]
    assert np.array_equal(np.stack(pictures), whole)


def test_balanced_labels_are_exactly_balanced(run):
    generator = attrs.evolve(genmem.load(run).generator(), labels="balanced")
    labels = generator.sample(torch.arange(20), 0).label_B
    assert torch.bincount(labels).tolist() == [2] * 10


def test_pictures_of_another_job_are_not_mixed_in(run, tmp_path):
    sample(job(run, tmp_path, num=2))
    with pytest.raises(ValueError, match="another job \\(seed: 1 there, 2 here\\)"):
        sample(job(run, tmp_path, num=2, seed=2))


def test_a_sample_does_not_depend_on_its_batch(data):
    trainer = trainer_of(small_recipe(data))
    from genmem.building import shapes_of
    from genmem.sampling.generator import generator_of

    generator = generator_of(
        trainer.recipe,
        trainer.averages.modules["ema"],
        trainer.assembly.conditioner,
        shapes_of(trainer.dataset),
        trainer.device,
    )
    together = generator.sample(torch.arange(9), 4)
    for rows in (slice(0, 1), slice(2, 7)):
        alone = generator.sample(torch.arange(9)[rows], 4)
        assert torch.equal(alone.row_B, together.row_B[rows])
        torch.testing.assert_close(alone.x, together.x[rows], atol=1e-4, rtol=0)


def test_without_its_data_a_run_still_samples(run, whole, tmp_path, monkeypatch):
    """A checkpoint records the shapes it was made for; only the bank is needed beside it."""
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    text = (moved / "recipe.toml").read_text()
    data_path = next(line for line in text.splitlines() if line.startswith("path = ") and "bank" not in line)
    (moved / "recipe.toml").write_text(text.replace(data_path, 'path = "nowhere"'))
    out = tmp_path / "out"
    sample(job(moved, out))
    assert np.array_equal(pngs(out), whole)
