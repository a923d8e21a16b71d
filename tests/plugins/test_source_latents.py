"""Latents that people already have: REPA's folder and LightningDiT's shards, imported and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import trainer_of
from safetensors.numpy import save_file
from source_parts import pixels, write_latents, write_repa

from genmem.contracts import LatentSpec, StoredSource, Tokenizer, TokenizerConfig
from genmem.data.dataset import Dataset
from genmem.data.errors import DataError
from genmem.data.preparation import prepare
from genmem.data.streaming.stream import Stream
from genmem.recipe import loads
from genmem.recipe.data_table import DataTable
from genmem.recipe.seats import Seat
from genmem.testing import check_source
from genmem_encoders import PixelEncoderConfig, PreviewTokenizerConfig
from genmem_sources import LatentSafetensorsConfig, RepaLatentsConfig, StoredFeatureConfig

SCALE = 0.18215


class Decoder:
    """Stands for the autoencoder that made the latents."""

    def __init__(self, scale: float, weights: str) -> None:
        self.scale, self.weights = scale, weights

    def spec(self, picture_shape: tuple[int, int, int]) -> LatentSpec:
        side = picture_shape[0] // 8
        return LatentSpec("kl", (4, side, side), "float16", (self.scale,), (0.0,), True, self.weights)

    def encode(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        raise AssertionError("latents are there: no picture is encoded")

    def decode(self, x: torch.Tensor) -> np.ndarray:
        return np.zeros((len(x), 8 * x.shape[2], 8 * x.shape[3], 3), np.uint8)


class DecoderConfig(TokenizerConfig):
    scale, weights = SCALE, "a" * 64

    def build(self) -> Tokenizer:
        return Decoder(self.scale, self.weights)


class RescaledConfig(DecoderConfig):
    scale = 1.0


class RetrainedConfig(DecoderConfig):
    weights = "b" * 64


def data_of(folder: Path, source: Any, tokenizer: TokenizerConfig | None = None, **changes: Any) -> DataTable:
    tokenizer = tokenizer or DecoderConfig()
    seats = {"source": Seat("given", source), "tokenizer": Seat("decoder", tokenizer), "shard_size": 5}
    return DataTable(path=str(folder / "set"), **(seats | changes))


def all_x(dataset: Dataset, split: Any = "train", view: int = 0) -> np.ndarray:
    numbers = np.arange(dataset.count(split))
    return dataset.shards(split).read("x", numbers, np.full_like(numbers, view))


def test_repa_latents_are_stored_as_they_are(tmp_path: Path) -> None:
    moments, labels = write_repa(tmp_path / "repa")
    dataset = prepare(data_of(tmp_path, RepaLatentsConfig(path=str(tmp_path / "repa"))))
    assert np.array_equal(all_x(dataset), moments)
    assert dataset.labels("train").tolist() == labels.tolist()
    assert dataset.picture_shape == (32, 32, 3)
    spec = LatentSpec("kl", (4, 4, 4), "float32", (SCALE,), (0.0,), True, "a" * 64)
    assert (dataset.spec, dataset.views) == (spec, 1)
    # x = (mean + deviation * noise) * 0.18215, another draw every epoch.
    stream = Stream(dataset.shards("train"), dataset.spec, seed=0, batch=12)
    draws = []
    for epoch in range(2):
        (batch,) = stream.batches(epoch)
        order = batch.index_B.argsort()
        draws.append(batch.x[order].numpy())
    noise = (np.stack(draws) / SCALE - moments[:, :4]) / moments[:, 4:]
    assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.1
    assert not np.allclose(noise[0], noise[1])


def test_encoders_run_on_repas_pictures(tmp_path: Path) -> None:
    write_repa(tmp_path / "repa")
    source = RepaLatentsConfig(path=str(tmp_path / "repa"), held_out=3)
    check_source(source)
    encoder = {"flat": Seat("pixels", PixelEncoderConfig())}
    dataset = prepare(data_of(tmp_path, source, encoder=encoder))
    assert (dataset.count("train"), dataset.count("test")) == (9, 3)
    known = {pixels(i, 32, 32).tobytes(): i for i in range(12)}
    for split in ("train", "test"):
        flat = dataset.feature(split, "flat", 0, dataset.count(split))
        pictures = np.rint((flat + 1) * 127.5).astype(np.uint8).reshape(-1, 32, 32, 3)
        numbers = [known[picture.tobytes()] for picture in pictures]
        # The picture beside a latent is its own.
        assert [n % 3 for n in numbers] == dataset.labels(split).tolist()
        moments, _ = write_repa(tmp_path / "again")
        assert np.array_equal(all_x(dataset, split), moments[numbers])


def test_a_latent_whose_picture_cannot_be_read_is_left_out_with_it(tmp_path: Path) -> None:
    moments, labels = write_repa(tmp_path / "repa")
    (tmp_path / "repa" / "images" / "00000" / "img00000001.png").write_bytes(b"none")
    source = RepaLatentsConfig(path=str(tmp_path / "repa"))
    encoder = {"flat": Seat("pixels", PixelEncoderConfig())}
    dataset = prepare(data_of(tmp_path, source, encoder=encoder, damage="skip"))
    kept = [i for i in range(12) if i != 1]
    assert np.array_equal(all_x(dataset), moments[kept])
    assert dataset.labels("train").tolist() == labels[kept].tolist()


def test_lightningdit_shards_are_stored_in_both_views_with_their_features(tmp_path: Path) -> None:
    tensors = write_latents(tmp_path / "latents")
    source = LatentSafetensorsConfig(path=str(tmp_path / "latents"), downsample=8)
    assert isinstance(source.build(), StoredSource)
    encoder = {"dino": Seat("stored", StoredFeatureConfig())}
    dataset = prepare(data_of(tmp_path, source, encoder=encoder, views=2))
    assert (dataset.views, dataset.picture_shape) == (2, (16, 16, 3))
    shards, numbers = dataset.shards("train"), np.arange(12)
    for view, suffix in enumerate(("", "_flip")):
        assert np.array_equal(all_x(dataset, view=view), tensors[f"latents{suffix}"])
        dino = shards.read("dino", numbers, np.full(12, view))
        assert np.array_equal(dino, tensors[f"cls_tokens{suffix}"])
    assert dataset.spec.scale == (SCALE,) and not dataset.spec.moments
    with pytest.raises(ValueError, match="its encoder is not here to encode pictures"):
        dataset.encoder("dino", StoredFeatureConfig())
    # One coin: latent and feature are of one view.
    (batch,) = Stream(shards, dataset.spec, seed=1, batch=12).batches(0)
    assert 0 < batch.view_B.sum() < 12
    for i, (number, view) in enumerate(zip(batch.index_B.tolist(), batch.view_B.tolist(), strict=True)):
        suffix = "_flip" if view else ""
        np.testing.assert_allclose(batch.x[i], tensors[f"latents{suffix}"][number] * SCALE, rtol=1e-6)
        np.testing.assert_allclose(batch.features["dino"][i], tensors[f"cls_tokens{suffix}"][number])


def test_held_out_latents_keep_their_labels(tmp_path: Path) -> None:
    tensors = write_latents(tmp_path / "latents")
    source = LatentSafetensorsConfig(path=str(tmp_path / "latents"), held_out=5)
    check_source(source)
    dataset = prepare(data_of(tmp_path, source, downsampled(8)))
    rows = {row.tobytes(): i for i, row in enumerate(tensors["latents"])}
    found = []
    for split in ("train", "test"):
        numbers = [rows[row.tobytes()] for row in all_x(dataset, split)]
        assert dataset.labels(split).tolist() == [n % 3 for n in numbers]
        found += numbers
    assert sorted(found) == list(range(12))


def downsampled(factor: int) -> TokenizerConfig:
    """A decoder for latents that the source counts by another factor."""

    class Config(DecoderConfig):
        def build(self) -> Tokenizer:
            decoder = Decoder(SCALE, "")
            decoder.spec = lambda shape: LatentSpec("kl", (4, 2, 2), "float32", (SCALE,), (0.0,))  # type: ignore[method-assign]
            return decoder

    return Config()


def test_half_precision_is_stored_and_counted(tmp_path: Path) -> None:
    tensors = write_latents(tmp_path / "latents")
    source = LatentSafetensorsConfig(path=str(tmp_path / "latents"), downsample=8)
    dataset = prepare(data_of(tmp_path, source, precision="fp16"))
    assert dataset.spec.dtype == "float16"
    assert np.array_equal(all_x(dataset), tensors["latents"].astype(np.float16))
    tensors["latents"][3, 0, 0, 0] = 1e6
    write_latents(tmp_path / "large", latents=tensors["latents"])
    large = LatentSafetensorsConfig(path=str(tmp_path / "large"), downsample=8)
    with pytest.raises(
        DataError, match=r"field 'x': values that are not finite as float16 \(data.precision\)"
    ):
        prepare(data_of(tmp_path / "other", large, precision="fp16"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RescaledConfig(), r"latents of scale \(0.18215,\), data.tokenizer decodes scale \(1.0,\)"),
        (downsampled(8), r"latents of shape \(4, 4, 4\), data.tokenizer decodes shape \(4, 2, 2\)"),
    ],
)
def test_another_autoencoder_than_the_latents_is_refused(
    tmp_path: Path, config: TokenizerConfig, message: str
) -> None:
    write_repa(tmp_path / "repa")
    with pytest.raises(DataError, match=message):
        prepare(data_of(tmp_path, RepaLatentsConfig(path=str(tmp_path / "repa")), config))


def test_swapping_the_autoencoder_under_a_set_is_refused(tmp_path: Path) -> None:
    write_repa(tmp_path / "repa")
    source = RepaLatentsConfig(path=str(tmp_path / "repa"))
    prepare(data_of(tmp_path, source))
    with pytest.raises(DataError, match=r"prepared with data.tokenizer = .*'a{64}'.*asks for .*'b{64}'"):
        prepare(data_of(tmp_path, source, RetrainedConfig()))


def test_latents_of_unknown_scale_need_a_decoder_or_a_scale(tmp_path: Path) -> None:
    write_latents(tmp_path / "latents")
    source = LatentSafetensorsConfig(path=str(tmp_path / "latents"))
    with pytest.raises(DataError, match="the scale of these latents is not known; give scale and shift"):
        prepare(data_of(tmp_path, source, PreviewTokenizerConfig()))
    scaled = LatentSafetensorsConfig(path=str(tmp_path / "latents"), scale=(2.0, 1, 1, 1), shift=(0.0,))
    dataset = prepare(data_of(tmp_path / "b", scaled, PreviewTokenizerConfig()))
    assert dataset.spec.scale == (2.0, 1, 1, 1)
    with pytest.raises(ValueError, match="scale and shift go together"):
        LatentSafetensorsConfig(path="x", scale=(2.0,))


def test_what_a_source_of_latents_lacks_is_refused(tmp_path: Path) -> None:
    write_repa(tmp_path / "repa")
    write_latents(tmp_path / "latents")
    repa = RepaLatentsConfig(path=str(tmp_path / "repa"))
    shards = LatentSafetensorsConfig(path=str(tmp_path / "latents"), downsample=8)
    with pytest.raises(DataError, match=r"data.views = 2, but the source has plain views alone"):
        prepare(data_of(tmp_path / "1", repa, views=2))
    flat = {"flat": Seat("pixels", PixelEncoderConfig())}
    with pytest.raises(DataError, match=r"data.encoder.flat: encodes pictures, .* has latents alone"):
        prepare(data_of(tmp_path / "2", shards, encoder=flat))
    dino = {"dino": Seat("stored", StoredFeatureConfig(pooled="clip"))}
    with pytest.raises(ValueError, match=r"no tensor 'clip'; there are \['cls_tokens'"):
        prepare(data_of(tmp_path / "3", shards, encoder=dino))
    with pytest.raises(ValueError, match=r"holds no features such as 'clip'"):
        prepare(data_of(tmp_path / "4", repa, encoder=dino))


def spoil(folder: Path, entries: Any, name: str = "vae-sd") -> Path:
    write_repa(folder)
    (folder / name / "dataset.json").write_text(json.dumps({"labels": entries}))
    return folder


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([["../../etc/passwd", 0]], r"'../../etc/passwd': expected a name such as 00000/img-mean-std"),
        ([["/tmp/00000/img-mean-std-00000000.npy", 0]], "expected a name such as"),
        ([["00001/img-mean-std-00000000.npy", 0]], "expected a name such as"),
        ([["00000/img-mean-std-00000000.npy", -1]], r"expected \[name, class\]"),
        ([["00000/img-mean-std-00000000.npy", True]], r"expected \[name, class\]"),
        ([], "lists no latents"),
        ([["00000/img-mean-std-00000000.npy", 0]] * 2, "or one of them twice"),
        (None, r'expected \{"labels"'),
    ],
)
def test_lists_that_are_not_repas_are_refused(tmp_path: Path, entries: Any, message: str) -> None:
    path = spoil(tmp_path / "repa", entries)
    (path / "images" / "dataset.json").unlink()
    with pytest.raises(ValueError, match=message):
        RepaLatentsConfig(path=str(path)).build()


def test_pictures_and_latents_that_do_not_pair_are_refused(tmp_path: Path) -> None:
    entries = [[f"00000/img{i:08d}.png", (i + 1) % 3] for i in range(12)]
    path = spoil(tmp_path / "repa", entries, "images")
    with pytest.raises(ValueError, match="they do not belong together"):
        RepaLatentsConfig(path=str(path)).build()


def test_latents_of_other_forms_are_refused(tmp_path: Path) -> None:
    write_repa(tmp_path / "repa")
    source = RepaLatentsConfig(path=str(tmp_path / "repa"))
    odd = tmp_path / "repa" / "vae-sd" / "00000" / "img-mean-std-00000004.npy"
    np.save(odd, np.zeros((8, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"00000004.npy: shape \(8, 5, 4\), the first has \(8, 4, 4\)"):
        prepare(data_of(tmp_path / "a", source))
    np.save(odd, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"00000004.npy: .*(only plain numbers|not an npy)"):
        prepare(data_of(tmp_path / "b", source))
    odd.write_bytes(odd.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"00000004.npy: not an npy"):
        prepare(data_of(tmp_path / "c", source))
    odd.unlink()
    with pytest.raises(FileNotFoundError, match=r"00000004.npy: missing, though"):
        prepare(data_of(tmp_path / "d", source))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "expected tensors 'latents' and 'labels'"),
        ({"labels": np.zeros(12, np.float32)}, r"labels: expected \(n,\) class numbers, found float32"),
        ({"latents": np.zeros((12, 4, 2, 2), np.int32)}, "latents: expected F32 or F16"),
        ({"latents_flip": np.zeros((12, 4, 2, 3), np.float32)}, "differ in type or shape"),
    ],
)
def test_shards_of_other_forms_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_latents(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        LatentSafetensorsConfig(path=str(tmp_path)).build()


def test_damaged_and_uneven_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no .safetensors files"):
        LatentSafetensorsConfig(path=str(tmp_path)).build()
    write_latents(tmp_path)
    latents = {"latents": np.zeros((2, 4, 3, 3), np.float32), "labels": np.zeros(2, np.int64)}
    save_file(latents, tmp_path / "z.safetensors")
    with pytest.raises(ValueError, match=r"z.safetensors: latents of .*\(4, 3, 3\).*the first shard's are"):
        LatentSafetensorsConfig(path=str(tmp_path)).build()
    (tmp_path / "z.safetensors").write_bytes((tmp_path / "z.safetensors").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"z.safetensors: damaged"):
        LatentSafetensorsConfig(path=str(tmp_path)).build()


TRAINED = """
extends = "digits/label"
data.path = "{folder}/set"
data.source = {{ use = "{use}", path = "{folder}/given", held_out = 4{more} }}
data.tokenizer = {{ use = "preview" }}
data.encoder = {encoder}
backbone.depth = 1
backbone.patch = 1
evaluate.copies = "none"
evaluate.encoder = {{ random-conv = "none" }}
train.batch = 4
"""


@pytest.mark.parametrize(
    ("use", "more"), [("repa-latents", ""), ("latent-safetensors", ", scale = [0.2], shift = [0.0]")]
)
def test_both_layouts_are_trained_on(tmp_path: Path, use: str, more: str) -> None:
    (write_repa if use == "repa-latents" else write_latents)(tmp_path / "given")
    encoder = '{ pca = "none", dino = { use = "stored" } }' if more else '{ pca = "none" }'
    text = TRAINED.format(folder=tmp_path, use=use, more=more, encoder=encoder)
    trainer = trainer_of(loads(text, "latents"))
    values = [trainer.step() for _ in range(3)]
    assert all(bool(value.isfinite()) for step in values for value in step.values())
