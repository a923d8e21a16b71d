"""`genmem data`: from a folder or an archive to a set, and what can be asked of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from distributions import genmem_command
from PIL import Image
from source_parts import (
    CLASSES,
    picture_files,
    pixels,
    split_files,
    write_cifar,
    write_folder,
    write_latents,
    write_repa,
    write_tar,
    write_zip,
)

from genmem.cli import main
from genmem.data.dataset import Dataset


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, words)])


def said(*words: object) -> str:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with both views, made by the command."""
    folder = tmp_path_factory.mktemp("made")
    archive = write_tar(folder / "pictures.tar.xz", split_files())
    said(
        *("prepare", archive, folder / "set", "--tokenizer", "pixels", "--encoder", "flat=pixels"),
        *("--views", 2, "--precision", "fp16", "--data.shard_size=5"),
    )
    return folder / "set"


def test_an_archive_becomes_a_set(made: Path) -> None:
    dataset = Dataset(made)
    assert (dataset.count("train"), dataset.count("test"), dataset.views) == (12, 6, 2)
    assert dataset.class_names == CLASSES
    shards = dataset.shards("train")
    stored = [shards.read("x", np.arange(12), np.full(12, view)) for view in (0, 1)]
    plain = np.stack([pixels(i) for i in range(12)]).transpose(0, 3, 1, 2)
    assert np.array_equal(stored[0], plain) and np.array_equal(stored[1], plain[..., ::-1])
    assert dataset.manifest("train").features["flat"].dtype == "float16"


def test_what_a_source_was_taken_for_and_its_size_are_told(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "pictures", picture_files())
    words = (
        "prepare",
        path,
        tmp_path / "set",
        "--tokenizer",
        "pixels",
        "--held-out",
        "0.25",
        "--resolution",
        8,
    )
    text = said(*words)
    assert f"source: {path} as image-folder" in text
    assert "x  uint8  (3, 8, 8)  192 bytes" in text
    assert "9 training, 3 held out" in text
    # Again: nothing is made, and nothing is told of sizes.
    assert "bytes" not in said(*words)


def places(folder: Path) -> dict[str, Path]:
    write_cifar(folder / "cifar")
    write_latents(folder / "latents")
    write_repa(folder / "repa")
    write_tar(folder / "web" / "00000.tar", {"1.png": b""})
    return {
        "image-folder": write_folder(folder / "tree", split_files()),
        "image-archive": write_zip(folder / "a.zip", split_files()),
        "cifar10": folder / "cifar",
        "latent-safetensors": folder / "latents",
        "repa-latents": folder / "repa",
        "webdataset": folder / "web",
    }


def test_every_kind_of_place_is_told_from_the_others(tmp_path: Path) -> None:
    from genmem.data.making.naming import name_source
    from genmem.host import load_catalog

    catalog = load_catalog()
    for name, path in places(tmp_path).items():
        assert name_source(str(path), catalog) == {"use": name, "path": str(path)}
    assert name_source("digits", catalog) == {"use": "digits"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("nowhere", "out", "--tokenizer", "pixels"),
            "nowhere: no such file or folder, and no source of that",
        ),
        (("notes.txt", "out", "--tokenizer", "pixels"), "notes.txt: looks like no source; say which with"),
        (("digits", "out"), "--tokenizer is missing"),
        (("digits", "out", "more", "--tokenizer", "pixels"), "got 3 words"),
        (("quickstart", "--views", "2"), "--views goes with SOURCE OUT"),
        (("digits", "out", "--tokenizer", "pixel"), "did you mean 'pixels'"),
        (("digits", "out", "--tokenizer", "pixels", "--resolution", "8"), "unknown key 'resolution'"),
        (
            ("digits", "out", "--tokenizer", "pixels", "--encoder", "pca", "--encoder", "pca"),
            "two features called",
        ),
        (("digits", "out", "--tokenizer", "pixels", "--data.shardsize=3"), "did you mean 'shard_size'"),
        ((), "a source and a folder to write are wanted, or a recipe"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hi")
    done = run("prepare", *words)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_prepared_and_peeked_at(tmp_path: Path) -> None:
    path = f'--data.path="{tmp_path}/digits"'
    done = run("peek", "digits/label", path)
    assert done.exit_code == 2 and "genmem data prepare digits/label does that" in done.output
    text = said("prepare", "digits/label", path)
    assert "1,437 training, 360 held out" in text
    said("peek", "digits/label", path, "-o", tmp_path / "a.png", "--num", 9, "--split", "test")
    assert Image.open(tmp_path / "a.png").size == (3 * 66 + 2, 3 * 66 + 2)


def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "pictures", split_files())
    words = ("--tokenizer", "pixels", "--encoder", "pca", "--data.encoder.pca.width=2", "--data.shard_size=4")
    for out, more in (("one", ()), ("two", ("--nproc", "2"))):
        done = genmem_command("data", "prepare", str(path), str(tmp_path / out), *words, *more)
        assert done.returncode == 0, done.stderr
    assert Dataset(tmp_path / "one").fingerprint() == Dataset(tmp_path / "two").fingerprint()


def test_info_says_what_a_set_is(made: Path) -> None:
    found = json.loads(said("info", made, "--json"))
    assert found["samples"] == {"train": 12, "test": 6}
    assert found["fields"]["flat"] == {"dtype": "float16", "shape": [192], "bytes": 384}
    assert found["latent"]["scale"] == [1 / 127.5]
    assert found["fingerprint"] == Dataset(made).fingerprint()
    text = said("info", made)
    for part in (
        "12 training, 6 held out",
        "plain and mirrored",
        "8 x 8 x 3",
        "float16 (192,)",
        "image-archive",
    ):
        assert part in text
    done = run("info", made / "nowhere")
    assert done.exit_code == 2 and "manifest.json: missing" in done.output


def test_verify_names_shard_and_sample(made: Path, tmp_path: Path) -> None:
    assert json.loads(said("verify", made, "--json")) == {"path": str(made), "sound": True, "damages": []}
    folder = Path(shutil.copytree(made, tmp_path / "set"))
    shard = folder / "train" / "000001.tar"
    data = bytearray(shard.read_bytes())
    places = Dataset(made).shards("train").index.fields["x.mirror.npy"]
    data[int(places.offset_N[7]) + 150] ^= 1
    shard.write_bytes(data)
    done = run("verify", folder)
    assert done.exit_code == 1
    assert f"{shard}: sample '00000007': x.mirror.npy: its checksum differs" in done.output
    state = folder / "encoders" / "flat.safetensors"
    state.write_bytes(state.read_bytes() + b" ")
    found = json.loads(run("verify", folder, "--json").stdout)
    assert [damage["sample"] for damage in found["damages"]] == ["00000007", ""]
    assert found["damages"][1]["file"] == str(state)
    (folder / "test" / "manifest.json").write_text("{")
    assert run("verify", folder).exit_code == 2


def test_peek_shows_samples_beside_their_twins(made: Path, tmp_path: Path) -> None:
    text = said("peek", made, "-o", tmp_path / "peek.png", "--num", 100)
    assert "12 of 12 train samples, each with its mirrored twin" in text
    picture = np.asarray(Image.open(tmp_path / "peek.png"))
    # 24 pictures of 8 x 8, eight times enlarged, in rows of six with gaps of two.
    assert picture.shape == (4 * 66 + 2, 6 * 66 + 2, 3)
    cells = [picture[2 + 66 * y :: 8, 2 + 66 * x :: 8][:8, :8] for y in range(4) for x in range(6)]
    for number in range(12):
        assert np.array_equal(cells[2 * number], pixels(number))
        assert np.array_equal(cells[2 * number + 1], pixels(number)[:, ::-1])
    done = run("peek", made, "-o", tmp_path / "peek.jpg")
    assert done.exit_code == 2 and "saved as .png" in done.output


def test_peek_draws_the_same_samples_for_a_seed(made: Path, tmp_path: Path) -> None:
    def peek(name: str, seed: int) -> bytes:
        said("peek", made, "-o", tmp_path / name, "--num", 4, "--seed", seed)
        return (tmp_path / name).read_bytes()

    assert peek("a.png", 3) == peek("b.png", 3)
    assert len({peek("c.png", seed) for seed in range(4)}) > 1


def test_stats_tell_classes_and_how_well_an_epoch_is_mixed(made: Path, tmp_path: Path) -> None:
    found: dict[str, Any] = json.loads(said("stats", made, "--json"))
    assert found["train"]["classes"] == dict.fromkeys(CLASSES, 4)
    assert found["train"]["samples_per_shard"] == [2, 5]
    assert found["shuffle"]["shards_in_a_batch"] == 3
    # Windows of one shard keep the five samples of a shard within five places.
    near = json.loads(said("stats", made, "--window", 1, "--json"))["shuffle"]
    assert near["apart"] < found["shuffle"]["apart"] + 4
    text = said("stats", made)
    assert "12 samples in 3 shards of 2 to 5 samples" in text
    assert "3 classes of 4: cat 4, dog 4, eel 4" in text


def test_neighbours_of_a_chance_order_are_a_third_of_the_set_apart(tmp_path: Path) -> None:
    said("prepare", "digits", tmp_path / "d", "--tokenizer", "pixels", "--data.shard_size=100")
    shares = [json.loads(said("stats", tmp_path / "d", "--seed", s, "--json"))["shuffle"] for s in range(3)]
    # (N + 1) / 3 on average; one order of 1,437 is within a few hundredths of it.
    assert all(0.93 < share["share_of_random"] < 1.07 for share in shares)
    windowed = json.loads(said("stats", tmp_path / "d", "--window", 2, "--json"))["shuffle"]
    # Within two shards of 100 neighbours are 200 / 3 apart; few are in two shards.
    assert 0.1 < windowed["share_of_random"] < 0.3


@pytest.mark.parametrize("command", ["prepare", "info", "verify", "peek", "stats"])
def test_every_command_has_examples(command: str) -> None:
    assert "Example" in said(command, "--help")
