"""Preparing a set: complete or absent, resumed after a kill, and never another recipe's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import data_fakes
import numpy as np
import pytest
import torch
from data_fakes import FakeSource, FakeSourceConfig, MomentsTokenizer, MomentsTokenizerConfig, table

from genmem.contracts import Source, Split
from genmem.data.dataset import Dataset
from genmem.data.errors import DataError
from genmem.data.preparation import prepare
from genmem.data.streaming.stream import Stream
from genmem.recipe.tables import Seat
from genmem_encoders import PcaConfig, PixelEncoderConfig, PixelTokenizerConfig, RandomConvConfig

ENCODERS = {"pca": Seat("pca", PcaConfig(width=4)), "flat": Seat("pixels", PixelEncoderConfig())}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def picture_of(split: Split, number: int, **settings: Any) -> np.ndarray:
    return FakeSource(FakeSourceConfig(**settings)).picture(split, number)[0]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(table(tmp_path_factory.mktemp("set"), encoder=ENCODERS))


def test_a_set_holds_what_its_source_gave(prepared: Dataset) -> None:
    assert (prepared.count("train"), prepared.count("test")) == (50, 11)
    assert [shard.samples for shard in prepared.manifest("train").shards] == [20, 20, 10]
    assert prepared.class_names == ("even", "odd")
    assert prepared.picture_shape == (8, 8, 1)
    assert prepared.feature_widths == {"pca": 4, "flat": 64}
    tokenizer = PixelTokenizerConfig().build()
    for split in ("train", "test"):
        numbers = np.arange(prepared.count(split))
        pictures = np.stack([picture_of(split, n) for n in numbers.tolist()])
        assert prepared.labels(split).tolist() == (numbers % 2).tolist()
        assert np.array_equal(prepared.pictures(split, numbers, tokenizer), pictures)
        flat = pictures.reshape(len(pictures), -1) / 127.5 - 1
        np.testing.assert_allclose(prepared.feature(split, "flat", 0, len(numbers)), flat, atol=1e-6)
        assert prepared.feature(split, "flat", 3, 5).dtype == np.float32
        assert prepared.feature(split, "flat", 3, 5).shape == (2, 64)


def test_encoders_are_fitted_on_the_training_split_and_come_back_fitted(prepared: Dataset) -> None:
    train = np.stack([picture_of("train", n) for n in range(50)]).reshape(50, -1) / 127.5 - 1
    test = np.stack([picture_of("test", n) for n in range(11)])
    _, _, right = np.linalg.svd(train - train.mean(0))
    expected = (test.reshape(11, -1) / 127.5 - 1 - train.mean(0)) @ right[:4].T
    found = prepared.feature("test", "pca", 0, 11)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)
    encoder = prepared.encoder("pca", PcaConfig(width=4))
    assert np.array_equal(encoder.encode(test).pooled_BD, found)


def test_encoders_of_other_settings_or_names_are_refused(prepared: Dataset) -> None:
    with pytest.raises(
        DataError, match=r"'pca' was fitted as pca \{\"width\": 4\}, asked for as pca \{\"width\": 5\}"
    ):
        prepared.encoder("pca", PcaConfig(width=5))
    with pytest.raises(DataError, match=r"no encoder 'far'; there are \['flat', 'pca'\]"):
        prepared.encoder("far", PcaConfig())
    with pytest.raises(DataError, match=r"no feature 'far'; there are .* add \[data.encoder.far\]"):
        prepared.feature("train", "far", 0, 1)


def test_a_changed_encoder_state_is_refused(prepared: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared.path, tmp_path / "set"))
    path = folder / "encoders" / "pca.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"pca.safetensors: sha256 [0-9a-f]{64}, the manifest says"):
        Dataset(folder).encoder("pca", PcaConfig(width=4))
    path.unlink()
    with pytest.raises(DataError, match=r"pca.safetensors: missing"):
        Dataset(folder).encoder("pca", PcaConfig(width=4))


def test_the_fingerprint_follows_every_byte_and_the_reference_only_samples(tmp_path: Path) -> None:
    def make(name: str, source: FakeSourceConfig, **changes: Any) -> Dataset:
        return prepare(table(tmp_path / name, source, **changes))

    base = make("a", FakeSourceConfig())
    again = make("b", FakeSourceConfig())
    featured = make("c", FakeSourceConfig(), encoder=ENCODERS)
    fewer = make("d", FakeSourceConfig(train=49))
    assert base.fingerprint() == again.fingerprint()
    assert len({d.fingerprint() for d in (base, featured, fewer)}) == 3
    assert base.reference_hash("train") == featured.reference_hash("train") != fewer.reference_hash("train")
    assert base.reference_hash("test") == fewer.reference_hash("test")
    assert base.provenance()["source"] == {"name": "fake"}


def test_preparing_again_changes_nothing_and_reads_no_picture(
    prepared: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(prepared.path)
    monkeypatch.setattr(FakeSource, "picture", None)
    again = prepare(table(prepared.path, encoder=ENCODERS))
    assert files_of(prepared.path) == before
    assert again.fingerprint() == prepared.fingerprint()
    # A recipe may need fewer features than there are, and need not name the source.
    prepare(table(prepared.path, source=None, encoder={"pca": ENCODERS["pca"]}))
    prepare(attrs.evolve(table(prepared.path), source=None))


@pytest.mark.parametrize(
    ("changes", "found", "asked"),
    [
        (
            {"encoder": {"pca": Seat("pca", PcaConfig(width=5))}},
            'data.encoder.pca = pca {"width": 4}',
            'pca {"width": 5}',
        ),
        (
            {"encoder": {"pca": Seat("pixels", PixelEncoderConfig())}},
            'data.encoder.pca = pca {"width": 4}',
            "pixels",
        ),
        (
            {"encoder": {"new": Seat("pca", PcaConfig(width=4))}},
            "data.encoder.new = nothing",
            'pca {"width": 4}',
        ),
        ({"tokenizer": Seat("moments", MomentsTokenizerConfig())}, "data.tokenizer = pixels", "moments"),
        (
            {"tokenizer": Seat("pixels", MomentsTokenizerConfig())},
            "LatentSpec(tokenizer='pixels'",
            "'moments'",
        ),
        ({"source": Seat("fake", FakeSourceConfig(name="b"))}, '"name": "a"', '"name": "b"'),
    ],
)
def test_a_set_of_another_recipe_is_refused_with_both_named(
    prepared: Dataset, changes: dict[str, Any], found: str, asked: str
) -> None:
    with pytest.raises(DataError) as caught:
        prepare(attrs.evolve(table(prepared.path, encoder=ENCODERS), **changes))
    message = str(caught.value)
    assert found in message.split("the recipe asks for")[0]
    assert asked in message.split("the recipe asks for")[1]
    assert message.endswith("set data.path to another folder, or delete this one to have it prepared again")


def test_a_tokenizer_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = table(tmp_path, tokenizer=Seat("moments", MomentsTokenizerConfig()))
    prepare(data)
    spec = MomentsTokenizer.spec
    monkeypatch.setattr(
        MomentsTokenizer, "spec", lambda self, shape: spec(self, shape)._replace(weights="1" * 64)
    )
    with pytest.raises(
        DataError, match=r"data.tokenizer = LatentSpec\(.*weights='0{64}'\), .*weights='1{64}'\)"
    ):
        prepare(data)


def test_a_missing_set_without_a_source_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not prepared, and the recipe has no \[data.source\]"):
        prepare(attrs.evolve(table(tmp_path / "nowhere"), source=None))
    assert not (tmp_path / "nowhere").exists()


def test_progress_is_reported_to_the_end(tmp_path: Path) -> None:
    lines: list[tuple[str, int, int]] = []
    prepare(table(tmp_path, encoder=ENCODERS), lambda *line: lines.append(line))
    assert list(dict.fromkeys(line for line in lines if line[0] == "preparing train")) == [
        ("preparing train", done, 50) for done in (0, 20, 40, 50)
    ]
    assert ("preparing test", 11, 11) in lines
    assert {label for label, _, _ in lines} == {
        "fitting encoders",
        "preparing test",
        "preparing train",
        "joining test",
        "joining train",
    }


def test_two_views_are_mirror_images_with_their_own_features(tmp_path: Path) -> None:
    dataset = prepare(table(tmp_path, encoder=ENCODERS, views=2))
    shards, numbers = dataset.shards("train"), np.arange(50)
    plain, mirrored = (shards.read("x", numbers, np.full(50, view)) for view in (0, 1))
    assert np.array_equal(mirrored, plain[..., ::-1])
    flat = shards.read("flat", numbers, np.full(50, 1))
    np.testing.assert_allclose(flat.reshape(50, 1, 8, 8), mirrored / 127.5 - 1, atol=1e-6)
    # In the stream the coin takes latent and feature together.
    (batch,) = Stream(shards, dataset.spec, seed=0, batch=50).batches(0)
    assert 0 < batch.view_B.sum() < 50
    assert torch.allclose(batch.features["flat"].view(50, 1, 8, 8), batch.x, atol=1e-6)


def test_tokens_and_moments_are_stored_and_streamed(tmp_path: Path) -> None:
    encoder = {"conv": Seat("random-conv", RandomConvConfig(width=16, tokens=True))}
    dataset = prepare(table(tmp_path, tokenizer=Seat("moments", MomentsTokenizerConfig()), encoder=encoder))
    assert dataset.feature_widths == {"conv": 16, "conv.tokens": 4}
    (batch,) = Stream(dataset.shards("train"), dataset.spec, seed=0, batch=10).batches(0)
    assert batch.features["conv.tokens"].shape == (10, 16, 4)
    number = int(batch.index_B[0])
    pictures = picture_of("train", number)[None]
    encoded = RandomConvConfig(width=16, tokens=True).build().encode(pictures)
    assert encoded.tokens_BLD is not None
    np.testing.assert_allclose(batch.features["conv.tokens"][0].numpy(), encoded.tokens_BLD[0], atol=1e-6)
    # x = 2 (pixel / 256 + noise / 8) - 1
    residual = (batch.x.double().numpy() + 1) / 2
    residual -= np.stack([picture_of("train", n)[..., 0] for n in batch.index_B.tolist()])[:, None] / 256
    assert 0.09 < residual.std() < 0.16


def test_sets_without_labels_say_so(tmp_path: Path) -> None:
    dataset = prepare(table(tmp_path, FakeSourceConfig(labels=False, test=0)))
    assert set(dataset.labels("train").tolist()) == {-1}
    assert dataset.manifest("train").shards[0].fields == ("x.npy",)
    assert dataset.count("test") == 0


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"picture 30 of train is \(9, 8, 1\), the first is \(8, 8, 1\)"):
        prepare(table(tmp_path, FakeSourceConfig(odd_one=30)))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", ["x", "cls", "a.b", "../a", ""])
def test_names_that_cannot_stand_in_a_shard_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"data.encoder.*: a feature's name has letters"):
        prepare(table(tmp_path, encoder={name: Seat("pixels", PixelEncoderConfig())}))


def test_a_killed_preparation_goes_on_with_the_missing_shards(tmp_path: Path) -> None:
    code = "import sys; from data_fakes import table; from genmem.data.preparation import prepare; "
    code += "from test_data_preparation import ENCODERS; prepare(table(sys.argv[1], encoder=ENCODERS))"
    folder = tmp_path / "killed"
    paths = [str(Path(data_fakes.__file__).parent), *sys.path]
    # One for its shape, two fits, the test split, one for the features' form, then 30 of 50.
    reads = 1 + 2 * 50 + 11 + 1 + 30
    environment = os.environ | {data_fakes.DIES_AT: str(reads), "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    # Killed inside the second training shard: there is one, and no manifest at all.
    left = files_of(folder)
    assert {"test/000000.tar", "train/000000.tar", "train/parts/000000/part.json"} <= set(left)
    assert not {"train/manifest.json", "test/manifest.json", "train/000001.tar"} & set(left)
    with pytest.raises(
        DataError, match=r"train/manifest.json: missing; the set was never prepared, or not to"
    ):
        Dataset(folder)
    stamp = (folder / "train" / "000000.tar").stat().st_mtime_ns
    (folder / "train" / "000001.tar.partial").write_bytes(b"half a shard")
    resumed = prepare(table(folder, encoder=ENCODERS))
    assert (folder / "train" / "000000.tar").stat().st_mtime_ns == stamp
    whole = prepare(table(tmp_path / "whole", encoder=ENCODERS))
    assert resumed.fingerprint() == whole.fingerprint()
    assert files_of(folder) == files_of(tmp_path / "whole")


def _stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    picture = FakeSource.picture

    def stop(self: FakeSource, split: Split, n: int) -> tuple[np.ndarray, int]:
        if split == "train" and n == number:
            raise KeyboardInterrupt
        return picture(self, split, n)

    monkeypatch.setattr(FakeSource, "picture", stop)


def test_an_unfinished_preparation_of_other_settings_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_at(monkeypatch, 30)
    with pytest.raises(KeyboardInterrupt):
        prepare(table(tmp_path))
    monkeypatch.undo()
    for changes, message in (
        ({"shard_size": 10}, "data.shard_size = 20 lies here, this one has 10"),
        ({"source": Seat("fake", FakeSourceConfig(name="b"))}, "data.source = fake"),
        ({"encoder": ENCODERS}, "data.encoder.flat = None lies here"),
    ):
        with pytest.raises(DataError, match=f"preparation.json: an unfinished preparation with {message}"):
            prepare(attrs.evolve(table(tmp_path), **changes))
    assert prepare(table(tmp_path)).count("train") == 50
    assert not (tmp_path / "preparation.json").exists()


def test_a_folder_with_foreign_shards_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "000000.tar").write_bytes(b"somebody's")
    with pytest.raises(DataError, match=r"000000.tar: lies where a set is to be prepared"):
        prepare(table(tmp_path))
    assert (tmp_path / "train" / "000000.tar").read_bytes() == b"somebody's"


def test_several_callers_prepare_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def build(self: FakeSourceConfig) -> Source:
        built.append(self)
        return FakeSource(self)

    monkeypatch.setattr(FakeSourceConfig, "build", build)
    with ThreadPoolExecutor(4) as pool:
        prints = {d.fingerprint() for d in pool.map(prepare, [table(tmp_path)] * 4)}
    assert len(prints) == 1
    assert len(built) == 1


def test_splits_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    prepare(table(tmp_path / "a"))
    prepare(table(tmp_path / "b", encoder=ENCODERS))
    shutil.rmtree(tmp_path / "a" / "test")
    shutil.copytree(tmp_path / "b" / "test", tmp_path / "a" / "test")
    with pytest.raises(DataError, match="encoders of train is"):
        Dataset(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "test")
    shutil.copytree(tmp_path / "a" / "train", tmp_path / "a" / "test")
    with pytest.raises(DataError, match=r"test/manifest.json: split: 'train'"):
        Dataset(tmp_path / "a")
