"""Figures of named memory rows: by number, of pictures, between two; banks that are another's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from running import QUICKSTART, SMALL

import genmem
from genmem.cli import main
from genmem.sampling.figures import Figure, draw_figure
from genmem.sampling.snippets import Wanted, find_snippets
from genmem.scoring.reading import explained
from genmem.scoring.report import tell_memory
from genmem.scoring.run_protocol import protocol_of
from genmem.training import session


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with a bank of its own, made in this process."""
    folder = tmp_path_factory.mktemp("figures")
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{folder}/bank"')
    more = ("--train.images=64", "--evaluate.batch=8", "--sampler.steps=2", "--evaluate.samples=64")
    session.run(str(QUICKSTART), (*paths, *SMALL, *more), (), folder / "run", [])
    return folder / "run"


@pytest.fixture(scope="module")
def picture(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training picture 17 as a file."""
    opened = genmem.load(run)
    tokenizer = opened.recipe.data.tokenizer.config.build()
    path = tmp_path_factory.mktemp("pictures") / "17.png"
    Image.fromarray(opened.dataset.pictures("train", [17], tokenizer)[0, :, :, 0]).save(path)
    return path


def test_named_rows(run: Path, picture: Path) -> None:
    """A row by number; a picture of the set gives its row (eq. 10); between them eq. 11, ends included."""
    opened = genmem.load(run)
    store = opened.generator().conditioner.store
    assert store is not None
    by_number = find_snippets(opened, store, Wanted(rows=(3, 17)))
    assert torch.equal(by_number.memory_SKE, store.rows(torch.tensor([3, 17])))
    of_picture = find_snippets(opened, store, Wanted(pictures=(picture,)))
    torch.testing.assert_close(of_picture.memory_SKE[0], by_number.memory_SKE[1], atol=1e-5, rtol=0)
    between = find_snippets(opened, store, Wanted(ends=("3", str(picture)), steps=3))
    assert between.row_S == (3, -1, -1, -1, -1) and between.picture_S[4] == picture
    assert between.name_S[1:4] == ("0.75 of 3", "0.5 of 3", "0.25 of 3")
    torch.testing.assert_close(between.memory_SKE[[0, 4]], by_number.memory_SKE, atol=1e-5, rtol=0)
    codes = store.codes(torch.tensor([3, 17]))
    middle = store.decode(codes.mean(0, keepdim=True))
    torch.testing.assert_close(between.memory_SKE[2:3], middle, atol=1e-5, rtol=0)


def test_the_figure(run: Path, picture: Path, tmp_path: Path) -> None:
    """One line a row: its picture, samples of the same noises, five nearest; each sample a file."""
    wanted = Wanted(rows=(17, 3))
    figure = Figure(run=run, wanted=wanted, noises=2, seed=4, out=tmp_path)
    assert draw_figure(figure) == tmp_path
    record = json.loads((tmp_path / "figure.json").read_text())
    assert [line["row"] for line in record["lines"]] == ["17", "3"]
    assert all(line["nearest"][0] == int(line["row"]) for line in record["lines"])
    assert all(len(set(line["nearest"])) == 5 for line in record["lines"])
    opened = genmem.load(run)
    generator = opened.generator()
    assert generator.conditioner.store is not None
    memory = generator.conditioner.store.rows(torch.tensor([3, 3]))
    expected = opened.recipe.data.tokenizer.config.build().decode(
        generator.sample(torch.arange(2), 4, memory).x
    )
    found = np.stack([np.array(Image.open(tmp_path / f"{number:06d}.png")) for number in (2, 3)])
    assert np.abs(found.astype(int) - expected[..., 0]).max() <= 1
    sheet = np.array(Image.open(tmp_path / "figure.png"))
    reference = np.array(Image.open(picture)).repeat(8, 0).repeat(8, 1)
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], reference.shape)
    assert (windows == reference).all((2, 3)).sum() == 2, "row 17's picture: as reference and as nearest"


def test_the_command(run: Path, picture: Path, tmp_path: Path) -> None:
    """One of the three, numbers that are numbers, rows that are there."""

    def call(*words: str) -> str:
        found = CliRunner().invoke(main, ["sample", str(run), *words, "--out", str(tmp_path / "out")])
        assert found.exit_code in (0, 2), found.exception  # 2: told, without a traceback
        return found.output

    assert "3 rows × 1 noises" in call("--interpolate", "3", str(picture), "--steps", "1", "--noises", "1")
    assert "say one of" in call("--rows", "3", "--memory", str(picture))
    assert "'x' is no row's number" in call("--rows", "3,x")
    assert "row 99999 was asked for" in call("--rows", "99999")
    assert "row 99999 was asked for" in call("--interpolate", "3", "99999")
    (tmp_path / "no.png").write_text("no picture")
    assert "no picture that can be read" in call("--memory", str(tmp_path / "no.png"))


def test_another_bank_is_asked_for(run: Path, tmp_path: Path) -> None:
    """One that lies where the run's did is refused; by an override it is used, and the protocol says so."""
    opened = genmem.load(run)
    config = opened.recipe.memory["bank"].config
    other = attrs.evolve(config, path=str(tmp_path / "other"), rank=8)
    other.prepare(opened.dataset)
    words = (f'--memory.bank.path="{other.path}"', "--memory.bank.rank=8")
    with_other = genmem.load(run, overrides=words)
    store = with_other.generator().conditioner.store
    assert store is not None and store.fingerprint()["rank"] == 8
    digests = {
        protocol_of(one.recipe, one.dataset, one.generator().conditioner.store, (0,), "ema").digest
        for one in (opened, with_other)
    }
    assert len(digests) == 2
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    text = (moved / "recipe.toml").read_text().replace(config.path, other.path)
    (moved / "recipe.toml").write_text(text.replace("rank = 16", "rank = 8"))
    with pytest.raises(ValueError, match=r"memory.bank is another one than the run was trained with"):
        genmem.load(moved).generator()
    card = Path(other.path) / "bank.json"
    state = json.loads(card.read_text())["state"]
    raw = attrs.evolve(config, path=str(tmp_path / "raw"), rank="raw")
    raw.prepare(opened.dataset)
    card = Path(raw.path) / "bank.json"
    card.write_text(card.read_text().replace(state, "0" * len(state)))
    with pytest.raises(ValueError, match="rows of another encoder than the run was trained with"):
        genmem.load(run, overrides=(f'--memory.bank.path="{raw.path}"', "--memory.bank.rank=raw")).generator()
    with pytest.raises(ValueError, match="only sampler, guidance, evaluate and memory"):
        genmem.load(run, overrides=("--train.seed=3",))


def test_a_run_goes_on_after_rows_were_added(run: Path, tmp_path: Path) -> None:
    """Training and sampling take them; the protocol counts them."""
    from genmem_bank.changing.adding import add_features
    from genmem_bank.storage.card import Added

    opened = genmem.load(run)
    bank = Path(opened.recipe.memory["bank"].config.path)
    shutil.copytree(bank, tmp_path / "bank")
    features = opened.dataset.feature("test", "pca", 0, 3)
    store = opened.generator().conditioner.store
    before = protocol_of(opened.recipe, opened.dataset, store, (0,), "ema")
    add_features(bank, features, Added(what=("a", "b", "c"), hashes=("", "", "")))
    try:
        shutil.copytree(run, tmp_path / "run")
        session.run(str(run / "recipe.toml"), ("--train.images=96",), (), tmp_path / "run", [])
        again = genmem.load(tmp_path / "run")
        assert again.images_seen == 96
        after = protocol_of(again.recipe, again.dataset, again.generator().conditioner.store, (0,), "ema")
        assert after.memory is not None and before.memory is not None
        assert after.memory["added_rows"] == 3 and before.memory["added_rows"] == 0
        assert after.memory["built_rows"] == before.memory["built_rows"] == 1437
        assert after.digest != before.digest
        scores = json.loads((tmp_path / "run" / "scores.json").read_text())
        assert "1,440 rows, 3 of them added" in tell_memory(scores["memory"])
    finally:
        shutil.rmtree(bank)
        shutil.copytree(tmp_path / "bank", bank)


def test_scores_say_what_the_memory_is(run: Path) -> None:
    """Rows, encoder, how drawn, and the share of pixel energy, against least squares by NumPy."""
    record = json.loads((run / "scores.json").read_text())
    memory = record["memory"]
    assert (memory["built_rows"], memory["added_rows"], memory["width"]) == (1437, 0, 16)
    assert memory["encoder"]["name"] == "pca" and memory["drawn"] == "uniform" and memory["source"]
    opened = genmem.load(run)
    dataset, tokenizer = opened.dataset, opened.recipe.data.tokenizer.config.build()
    rows, pictures = {}, {}
    for split in ("train", "test"):
        feature = dataset.feature(split, "pca", 0, dataset.count(split)).astype(np.float64)
        unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
        rows[split] = np.c_[unit, np.ones(len(unit))]
        pictures[split] = dataset.pictures(split, np.arange(len(unit)), tokenizer).reshape(len(unit), -1)
    weight, *_ = np.linalg.lstsq(rows["train"], pictures["train"].astype(np.float64), rcond=None)
    found = (rows["test"] @ weight).clip(0, 255).round()
    missed = np.square(pictures["test"] - found).sum()
    expected = 1 - missed / np.square(pictures["test"] - pictures["train"].mean(0)).sum()
    assert memory["pixel_energy"] == pytest.approx(expected, abs=2e-3) and 0.5 < expected < 1
    names = [row["name"] for row in record["table"]["rows"]]
    assert {"linear decode of the rows", "samples, held-out rows"} <= set(names)
    line = tell_memory(memory)
    assert line.startswith(
        "memory: 1,437 rows, 0 of them added; drawn uniform; encoder pca; width 16, rank 16;"
    )
    assert f"carry {memory['pixel_energy']:.1%} of the pixel energy" in line


def test_explained_energy() -> None:
    """1 where pictures are found, 0 for the mean training picture, half for half the way."""
    train = np.array([[[[0]]], [[[200]]]], np.uint8)
    test = np.array([[[[0]]], [[[200]]]], np.uint8)
    assert explained(test, test, train) == 1
    assert explained(test, np.full_like(test, 100), train) == 0
    assert explained(test, np.array([[[[50]]], [[[150]]]], np.uint8), train) == 0.75
    assert explained(test, test[::-1], train) == -3
