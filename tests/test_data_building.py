"""What preparing adds to shards: precision, statistics, sizes told before, pictures left out, a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import torch
from data_fakes import FakeSource, FakeSourceConfig, MomentsTokenizerConfig, table

from genmem.contracts import Encoded, Encoder, EncoderConfig, Source, Split, UnreadablePicture
from genmem.data.dataset import Dataset
from genmem.data.errors import DataError
from genmem.data.making.building import SetBuilder, Team
from genmem.data.making.estimate import sample_bytes, show_bytes
from genmem.data.making.statistics import Moments, describe_moments, merge_moments
from genmem.data.preparation import prepare, stay_silent
from genmem.data.streaming.stream import Stream
from genmem.recipe.seats import Seat
from genmem_encoders import PcaConfig, PixelEncoderConfig, RandomConvConfig

ENCODERS = {
    "flat": Seat("pixels", PixelEncoderConfig()),
    "conv": Seat("random-conv", RandomConvConfig(width=16, tokens=True)),
}


def test_half_precision_halves_features_and_leaves_pixels(tmp_path: Path) -> None:
    whole = prepare(table(tmp_path / "a", encoder=ENCODERS))
    half = prepare(table(tmp_path / "b", encoder=ENCODERS, precision="fp16", views=2))
    assert {f.dtype for f in whole.manifest("train").features.values()} == {"float32"}
    assert {f.dtype for f in half.manifest("train").features.values()} == {"float16"}
    assert half.spec.dtype == "uint8" and half.views == 2
    for name in ("flat", "conv", "conv.tokens"):
        fine, coarse = (d.feature("train", name, 0, 50) for d in (whole, half))
        assert np.array_equal(coarse, fine.astype(np.float16))
    assert half.spec == whole.spec


def test_another_precision_or_more_views_than_the_set_has_are_refused(tmp_path: Path) -> None:
    data = table(tmp_path, encoder=ENCODERS, precision="fp16")
    prepare(data)
    with pytest.raises(DataError, match=r"data.precision = float16, the recipe asks for fp32"):
        prepare(attrs.evolve(data, precision="fp32"))
    with pytest.raises(DataError, match=r"data.views = 1, the recipe asks for 2"):
        prepare(attrs.evolve(data, views=2))
    prepare(attrs.evolve(data, precision=None, views=1))


def test_moments_keep_their_spec_at_either_precision(tmp_path: Path) -> None:
    data = table(tmp_path, tokenizer=Seat("moments", MomentsTokenizerConfig()), precision="fp32")
    dataset = prepare(data)
    assert dataset.spec.dtype == "float32" and dataset.spec.moments
    prepare(attrs.evolve(data, precision=None))


def test_statistics_are_those_of_x(tmp_path: Path) -> None:
    dataset = prepare(table(tmp_path, FakeSourceConfig(channels=3), views=2))
    for split in ("train", "test"):
        numbers = np.arange(dataset.count(split))
        x = dataset.shards(split).read("x", numbers).astype(np.float64) / 127.5 - 1
        found = dataset.manifest(split).provenance["statistics"]
        np.testing.assert_allclose(found["mean"], x.mean((0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose(found["std"], x.std((0, 2, 3)), atol=1e-6)


def test_statistics_of_moments_are_of_seeded_draws(tmp_path: Path) -> None:
    seat = Seat("moments", MomentsTokenizerConfig())
    first, again = (prepare(table(tmp_path / n, FakeSourceConfig(train=400), tokenizer=seat)) for n in "ab")
    found = first.manifest("train").provenance["statistics"]
    assert found == again.manifest("train").provenance["statistics"]
    stored = first.shards("train").read("x", np.arange(400)).astype(np.float64)
    means, deviations = 2 * stored[:, 0] - 1, 2 * stored[:, 1]
    assert found["mean"][0] == pytest.approx(means.mean(), abs=4 * 0.25 / np.sqrt(means.size))
    # Var(mean + deviation * noise) = Var(mean) + E(deviation²), and not Var(mean) alone.
    assert found["std"][0] ** 2 == pytest.approx(means.var() + (deviations**2).mean(), rel=0.01)
    assert deviations.mean() == pytest.approx(0.25)


def test_merged_moments_are_those_of_everything() -> None:
    x = np.random.default_rng(0).normal(1e4, 1.0, (50, 2, 3, 4))
    parts = [Moments.of(part) for part in np.split(x, [1, 7, 30])]
    found = describe_moments(merge_moments(parts))
    np.testing.assert_allclose(found["mean"], x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found["std"], x.std((0, 2, 3)), rtol=1e-9)
    assert Moments.of_json(parts[0].to_json()).squares_C.tolist() == parts[0].squares_C.tolist()


def test_the_size_is_told_before_anything_is_written_and_is_right(tmp_path: Path) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        assert not list(tmp_path.rglob("*.tar"))
        told.append(line)

    data = table(tmp_path, FakeSourceConfig(train=400, test=100), encoder=ENCODERS, views=2, shard_size=250)
    dataset = prepare(data, tell=tell)
    forms = {name: dataset.manifest("train").form(name) for name in ("x", "flat", "conv", "conv.tokens")}
    each = sample_bytes(forms, 2, label=True)
    tars = list(tmp_path.rglob("*.tar"))
    # A tar ends with two empty blocks, filled up to 10,240 bytes.
    assert 0 <= sum(tar.stat().st_size for tar in tars) - 500 * each <= 10240 * len(tars)
    text = "\n".join(told)
    assert f"each in 2 views, {each:,} bytes a sample in its tar" in text
    assert "for 500 samples" in text and show_bytes(500 * each) in text
    assert "float32  (64,)" in text and "256 bytes" in text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (307_200_000, "307.2 MB"), (2e12, "2.0 TB")]
)
def test_bytes_are_shown_in_their_unit(count: float, text: str) -> None:
    assert show_bytes(count) == text


@attrs.frozen(kw_only=True)
class FlawedConfig(FakeSourceConfig):
    """Pictures of these numbers cannot be read."""

    bad: tuple[int, ...] = (0, 3, 21)

    def build(self) -> Source:
        return Flawed(self)


class Flawed(FakeSource):
    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        if split == "train" and number in self.config.bad:  # type: ignore[attr-defined]
            raise UnreadablePicture(f"cat/{number}.jpg: not a readable picture: truncated")
        return super().picture(split, number)


def test_an_unreadable_picture_stops_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match=r"cat/21.jpg: not a readable picture"):
        prepare(table(tmp_path, FlawedConfig(bad=(21,))))
    assert not (tmp_path / "train" / "manifest.json").exists()


def test_unreadable_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    data = table(tmp_path, FlawedConfig(), damage="skip", encoder=ENCODERS)
    dataset = prepare(data)
    kept = [n for n in range(50) if n not in (0, 3, 21)]
    assert dataset.count("train") == 47
    assert [shard.samples for shard in dataset.manifest("train").shards] == [18, 19, 10]
    first_pixels = dataset.shards("train").read("x", np.arange(47))[:, 0, 0, 0]
    assert first_pixels.tolist() == kept
    assert dataset.labels("train").tolist() == [n % 2 for n in kept]
    flat = dataset.feature("train", "flat", 0, 47)
    np.testing.assert_allclose((flat[:, 0] + 1) * 127.5, kept, atol=1e-4)
    listed = dataset.manifest("train").provenance["skipped"]
    assert [line.split(":")[0] for line in listed] == ["cat/0.jpg", "cat/3.jpg", "cat/21.jpg"]
    assert "skipped" not in dataset.manifest("test").provenance


def test_too_many_unreadable_pictures_stop(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"3 pictures cannot be read, data.max_skipped allows 2; .*cat/21.jpg"
    ):
        prepare(table(tmp_path, FlawedConfig(), damage="skip", max_skipped=2))


def test_what_was_left_out_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = table(tmp_path / "a", FlawedConfig(), damage="skip")
    picture = Flawed.picture

    def stop(self: Flawed, split: Split, number: int) -> tuple[np.ndarray, int]:
        if split == "train" and number == 45:
            raise KeyboardInterrupt
        return picture(self, split, number)

    monkeypatch.setattr(Flawed, "picture", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(data)
    monkeypatch.undo()
    # A part that was not finished is made again from its tar.
    (tmp_path / "a" / "train" / "parts" / "000001" / "part.json").unlink()
    whole = prepare(table(tmp_path / "b", FlawedConfig(), damage="skip"))
    assert prepare(data).fingerprint() == whole.fingerprint()
    assert not list((tmp_path / "a").rglob("parts"))


def test_a_shard_without_a_readable_picture_stops(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"000001.tar: none of its pictures can be read: cat/20.jpg"):
        prepare(table(tmp_path, FlawedConfig(bad=tuple(range(20, 40))), damage="skip"))


def test_any_number_of_processes_make_the_same_set(tmp_path: Path) -> None:
    """Three builders take turns in one process: each has its share of the shards, and the first joins."""
    data = table(tmp_path / "team", encoder=ENCODERS | {"pca": Seat("pca", PcaConfig(width=4))})
    alone = prepare(attrs.evolve(data, path=str(tmp_path / "alone")))
    (tmp_path / "team").mkdir()
    waits = 0

    def wait() -> None:
        """The others come when the first one waits, up to where it waits."""
        nonlocal waits
        waits += 1
        if waits == 2:  # the shards of the first are written, and nothing is joined
            assert sorted(p.name for p in (tmp_path / "team" / "train").glob("*.tar")) == ["000000.tar"]
            for rank in (1, 2):
                with pytest.raises(StopIteration):
                    SetBuilder(
                        data, data.source, Team(rank, 3, pause()), "cpu", stay_silent, told.append
                    ).build()  # type: ignore[arg-type]

    def pause() -> Any:
        left = iter([None])  # fitted; then all shards are written, and the builder is left there
        return lambda: next(left)

    told: list[str] = []
    team = Team(0, 3, wait)
    SetBuilder(data, data.source, team, "cpu", stay_silent, stay_silent).build()  # type: ignore[arg-type]
    assert waits == 3 and not told
    assert Dataset(tmp_path / "team").fingerprint() == alone.fingerprint()


class Placed:
    """An encoder with weights of its own, that notes where it was put and what it was given."""

    seen: ClassVar[list[Any]] = []

    def __init__(self, weight: float) -> None:
        self.weight, self.width = weight, 2

    def to(self, device: torch.device) -> None:
        self.seen.append(device)

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        self.seen.append(len(pictures_BHWC))
        mean_B = pictures_BHWC.mean((1, 2, 3), dtype=np.float32)
        return Encoded(np.stack([mean_B, self.weight * mean_B], 1))

    def fit(self, pictures_BHWC: np.ndarray) -> None:
        raise AssertionError("it learns nothing")

    def state(self) -> dict[str, np.ndarray]:
        return {"weight": np.array([self.weight])}

    def load_state(self, state: Any) -> None:
        raise AssertionError("its weights are not in the set")


@attrs.frozen(kw_only=True)
class PlacedConfig(EncoderConfig):
    learns: ClassVar[bool] = False
    weight: float = attrs.field(default=2.0, eq=False)

    def build(self) -> Encoder:
        return Placed(self.weight)


def test_an_encoder_that_learns_nothing_is_placed_and_hashed(tmp_path: Path) -> None:
    Placed.seen.clear()
    data = table(tmp_path, encoder={"far": Seat("placed", PlacedConfig())}, encode_batch=16)
    dataset = prepare(data, device="meta")
    assert Placed.seen[0] == torch.device("meta")
    assert set(Placed.seen[1:]) == {1, 16, 4, 11, 10}  # a first sample; 20, 20, 10 and 11 by 16
    assert not (tmp_path / "encoders").exists()
    fitted = dataset.manifest("train").encoders["far"]
    assert len(fitted.state) == 64 and fitted.settings == {}
    assert isinstance(dataset.encoder("far", PlacedConfig()), Placed)
    with pytest.raises(DataError, match=r"encoder 'far' had weights of hash [0-9a-f]{64}, here are"):
        dataset.encoder("far", PlacedConfig(weight=3.0))


def test_a_recipe_may_ask_for_the_plain_view_of_two(tmp_path: Path) -> None:
    dataset = prepare(table(tmp_path, views=2))
    (batch,) = Stream(dataset.shards("train"), dataset.spec, seed=0, batch=50, views=1).batches(0)
    assert batch.view_B.tolist() == [0] * 50


def test_reading_ahead_with_threads_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = prepare(table(tmp_path / "a", FlawedConfig(), damage="skip", encode_batch=7))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threaded = prepare(table(tmp_path / "b", FlawedConfig(), damage="skip", encode_batch=7))
    assert threaded.fingerprint() == alone.fingerprint()
